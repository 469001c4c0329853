"""D-DAE's restorer learns to undo a defence from pairs that cost no query."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.knockoff import Knockoff
from agents.attackers.wrapped import Wrapped
from agents.oracle_wrappers.d_dae import DDAE, learned
from agents.oracle_wrappers.perturbation_inverses import simulate, take_wave_off
from envs.data.images import ImageSet
from envs.errors import PlayerError, ScenarioError, UnknownName
from envs.seeding import Streams

LIGHT = {"shadows": 2, "shadow_steps": 1, "pairs": 400, "epochs": 2}


def drawn(count):
    stream = Streams(0).torch("clean")
    return simulate(count, 3, defence="randp", strength=0.5, prior=1.0, generator=stream)[0].float()


def test_an_answer_mixed_with_the_uniform_one_comes_back():
    """Served is (y + 1/3)/2: (2/3, 1/3, 0) as (1/2, 1/3, 1/6), an L1 error of a third."""
    clean = drawn(12_000)
    restorer, error = learned((clean + 1 / 3) / 2, clean, 12, Streams(1).torch("restorer"))
    assert error < 0.05
    restored = restorer.restore(torch.tensor([[0.5, 1 / 3, 1 / 6]]))
    assert float((restored - torch.tensor([[2 / 3, 1 / 3, 0]])).abs().sum()) < 0.1
    assert float(restored.sum()) == pytest.approx(1, abs=1e-5)


def images(classes, count=90):
    """Noise with one bright quarter, by which classes can be learned."""
    pixels = torch.randint(156, (count, 1, 8, 8), generator=Streams(2).torch("pool"))
    for k in range(4):
        pixels[k::classes, :, 2 * k : 2 * k + 2] += 80
    names = tuple(str(k) for k in range(classes))
    return ImageSet(pixels.to(torch.uint8), torch.arange(count) % classes, classes, "pool", names)


def test_shadows_ask_nothing_and_answers_come_back_nearer(fake_oracle, kit):
    def truth(batch):
        return (20 * batch.reshape(len(batch), 4, -1).mean(2)).softmax(1)

    def served(batch):
        return take_wave_off(truth(batch).double(), 0.8, None).float()

    params = {**LIGHT, "pairs": 4_000, "epochs": 40, "shadow_steps": 80, "preserves_top1": False}
    oracle = fake_oracle(200, served)
    wrapper = DDAE(defence="reverse-sigmoid", strength=0.8, **params)
    through = wrapper.wrap(oracle, replace(kit(), surrogate_pool=images(4)))
    assert oracle.remaining == 200
    batch = images(4).images()
    restored = through.query(batch).posteriors
    before = (served(batch) - truth(batch)).abs().sum(1).mean()
    assert (restored - truth(batch)).abs().sum(1).mean() < 0.7 * before


def test_any_attacker_plays_behind_it(fake_oracle, kit):
    attacker = Wrapped(Knockoff(epochs=1), [DDAE(**LIGHT)])
    assert attacker.requires == {"soft-labels", "pool"}
    assert Wrapped(Knockoff(), [DDAE(clean="dirichlet")]).requires == {"soft-labels", "pool"}
    assert DDAE(clean="dirichlet").requires == {"soft-labels"}
    oracle = fake_oracle(30)
    attacker.attack(oracle, replace(kit(), surrogate_pool=images(4)))
    assert oracle.remaining == 0


def test_a_pool_of_too_few_classes_is_refused_before_a_query(fake_oracle, kit):
    oracle = fake_oracle(30)
    with pytest.raises(PlayerError, match="4 classes of the pool, and 'pool' has 3"):
        DDAE(**LIGHT).wrap(oracle, replace(kit(), surrogate_pool=images(3)))
    assert oracle.requests == []


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({"defence": "randq"}, UnknownName, "did you mean 'randp'"),
        ({"clean": "shadow"}, ScenarioError, "'shadows' or 'dirichlet'"),
        ({"strength": 2.0}, ScenarioError, "between 0 and 2"),
    ],
)
def test_what_cannot_be_played_is_refused(params, error, words):
    with pytest.raises(error, match=words):
        DDAE(**params)
