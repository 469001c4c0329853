"""Claims about the counters of an episode."""

import pytest
import torch

from envs.defences.base import Defence, DeployedDefence
from envs.game.counters import Counters, DeviceTimer, _Side
from envs.game.digests import DeviceDigests, HostDigests, fold, fold_here
from envs.game.rounds import AnsweredRequest, Countermeasure, Round
from envs.nets.multi_exit import MultiExit
from envs.nets.registry import build
from envs.types import faulty_values
from envs.victim.victim import Victim


def counters() -> Counters:
    generator = torch.Generator().manual_seed(0)
    network = build("mlp-small", num_classes=10, image_shape=(1, 8, 8), generator=generator)
    return Counters(
        [DeployedDefence("none", Defence(), Victim(MultiExit(network)))], torch.device("cpu")
    )


def a_round(images, given) -> Round:
    exits = torch.zeros(len(images), dtype=torch.int64)
    return Round(0, AnsweredRequest(images, 0, Countermeasure(), given, exits), (), given)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "values",
    [noise(7, 3, 8, 8), -noise(5, 10) * 1e30, noise(0, 10), noise(65535), -noise(65536) * 1e30,
     torch.full((70001,), -0.0), torch.full((80000,), torch.nan)],
)  # fmt: skip
def test_a_cpu_folds_into_what_an_accelerator_folds_into(values):
    assert (fold_here(values) - int(fold(values))) % 2**64 == 0


def test_both_kinds_of_digests_agree_and_go_on_from_one_another():
    here, there = HostDigests(), DeviceDigests(torch.device("cpu"))
    for count in (4, 4, 1, 2, 3, 5, 6, 7, 8, 9, 4, 9):  # more shapes than are kept
        with torch.inference_mode(count % 2 == 0):
            queries, answers = noise(count, 1, 8, 8), -noise(count, 10)
        for digests in (here, there):
            digests.add(queries, answers)
        assert here.read() == there.read()
        there.restore(here.read())


@pytest.mark.parametrize("size", [1, 3, 8])
def test_few_answers_are_counted_as_many_are(size):
    side = _Side((2, 4), torch.device("cpu"))
    exits = torch.tensor([2, 0, 3, 3, 1, 3, 2, 3])
    with torch.inference_mode(size == 1):
        for some in exits.split(size):
            round = a_round(noise(len(some), 1, 8, 8), noise(len(some), 10))
            decision = Countermeasure(defence=1, strength=0.0)
            side.count(round.attack._replace(exits=some, countermeasure=decision))
    assert side.exits.tolist() == [[0, 0, 0, 0], [1, 1, 2, 4]]
    assert (side.answered, side.off) == (8, [0, 8])


def test_answers_are_counted_by_exit_and_benign_ones_by_label_too():
    counter, exits = counters(), torch.zeros(3, dtype=torch.int64)
    right = torch.eye(10)[[4, 5, 6]]
    attack = AnsweredRequest(noise(3, 1, 8, 8), 0, Countermeasure(), right, exits)
    benign = attack._replace(client=1, labels=torch.tensor([4, 9, -1]))
    for _ in range(3):
        counter.on_round(Round(0, attack, (benign, benign), right))
    tally = counter.read(rounds=3, used=9)
    assert (tally.attack.exits, tally.benign.exits) == (((9,),), ((18,),))
    assert (tally.benign_labelled, tally.benign_correct) == (12, 6)


def test_a_digest_depends_on_every_value_and_on_the_order():
    images, targets = noise(4, 1, 8, 8), noise(4, 10)
    changed = targets.clone()
    changed[3, 9] += 1e-7
    digests = set()
    for answers in (targets, changed, targets.flip(0)):
        counter = counters()
        counter.on_round(a_round(images, answers))
        counter.on_round(a_round(images, targets))
        digests.add(counter.read(rounds=2, used=8).answer_digest)
    assert len(digests) == 3


def test_the_digest_of_a_round_is_the_published_formula():
    counter = counters()
    images, targets = noise(2, 1, 8, 8), noise(2, 10)
    counter.on_round(a_round(images, targets))
    words = targets.view(torch.int32).flatten().tolist()
    prime = 0x9E3779B97F4A7C1
    folded = sum(word * (2 * place + 1) for place, word in enumerate(words)) * prime
    assert counter.read(rounds=1, used=2).answer_digest == f"{folded % 2**64:016x}"


@pytest.mark.parametrize("bad", [-1e-6, 1 + 1e-6, float("nan"), float("inf")])
def test_a_single_value_out_of_range_is_noticed(bad):
    images = noise(3, 1, 8, 8)
    assert not faulty_values(images)
    images[1, 0, 4, 4] = bad
    assert faulty_values(images)


def test_a_timer_adds_up_what_it_ran_and_survives_an_error():
    timer = DeviceTimer(torch.device("cpu"))
    with timer:
        pass
    first = timer.read()
    with pytest.raises(KeyError), timer:
        raise KeyError
    assert 0 <= first < timer.read() < 1
