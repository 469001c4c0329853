"""LateKnockoff keeps what the last exit of a multi-exit victim answered."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.late_knockoff import LateKnockoff
from envs.data.images import ImageSet
from envs.errors import ScenarioError
from envs.seeding import Streams
from envs.types import Response


def early(images):
    return images[:, 0, 0, 0] > 0.3


def answers(images):
    """Early answers are all surer than 0.9 and of class 3; late ones spread below and above."""
    chance = images[:, 0, 1, 1]
    top = torch.where(early(images), 0.9 + 0.1 * chance, 0.3 + 0.69 * chance)
    label = torch.where(early(images), torch.tensor(3), (images[:, 0, 2, 2] * 3).long())
    rows = ((1 - top) / 3)[:, None].repeat(1, 4)
    return rows.scatter(1, label[:, None], top[:, None])


@pytest.fixture
def pool():
    pixels = torch.randint(256, (2000, 1, 8, 8), generator=Streams(0).torch("pool"))
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    return ImageSet(pixels.to(torch.uint8), labels, 1, "grey", ("grey",))


def _play(oracle, kit, pool, **params):
    told = {}
    lent = replace(kit(), surrogate_pool=pool, on_report=told.update)
    attacker = LateKnockoff(epochs=1, **params)
    attacker.attack(oracle, lent)
    assert oracle.remaining == 0
    assert attacker.clone is not None
    return told


def test_confidences_below_the_jump_are_kept(fake_oracle, kit, pool):
    told = _play(fake_oracle(2000, answers), kit, pool)
    late = answers(pool.images())[~early(pool.images())].amax(1)
    expected = float((late <= 0.9).double().mean()) * float((~early(pool.images())).double().mean())
    assert told["kept"] == pytest.approx(expected, abs=0.02)


def test_slow_answers_are_kept(fake_oracle, kit, pool):
    oracle = fake_oracle(2000, answers)
    oracle.threat = replace(oracle.threat, latency_visible=True)
    plain = oracle.query

    def timed(images):
        noise = torch.randn(len(images), generator=Streams(1).torch("time")).double()
        seconds = torch.where(early(images), 1e-3, 4e-3) * (0.02 * noise).exp()
        return Response(plain(images).posteriors, seconds)

    oracle.query = timed
    told = _play(oracle, kit, pool, by="latency", answers="argmax")
    assert told["kept"] == pytest.approx(float((~early(pool.images())).double().mean()), abs=0.01)


def test_without_a_cut_everything_is_kept(fake_oracle, kit, pool):
    assert _play(fake_oracle(500), kit, pool)["kept"] == 1
    assert _play(fake_oracle(1), kit, pool)["kept"] == 1


@pytest.mark.parametrize("params", [{"by": "luck"}, {"answers": "none"}, {"request": 0}])
def test_wrong_parameters_are_refused(params):
    with pytest.raises(ScenarioError, match="expected"):
        LateKnockoff(**params)
