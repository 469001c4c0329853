"""Claims about the counters of an episode."""

import pytest
import torch

from envs.defences.base import Defence, DeployedDefence
from envs.game.counters import DeviceTimer, TallyMeter
from envs.game.digests import DeviceDigests, HostDigests, fold, fold_here
from envs.nets.multi_exit import MultiExit
from envs.nets.registry import build
from envs.types import faulty_values
from envs.victim.victim import Victim


def meter() -> TallyMeter:
    generator = torch.Generator().manual_seed(0)
    network = build("mlp-small", num_classes=10, image_shape=(1, 8, 8), generator=generator)
    return TallyMeter(
        [DeployedDefence("none", Defence(), Victim(MultiExit(network)))], torch.device("cpu")
    )


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("values", [noise(7, 3, 8, 8), -noise(5, 10) * 1e30, noise(0, 10)])
def test_a_cpu_folds_into_what_an_accelerator_folds_into(values):
    assert fold_here(values) == int(fold(values))


def test_both_kinds_of_digests_agree_and_go_on_from_one_another():
    here, there = HostDigests(), DeviceDigests(torch.device("cpu"))
    for _ in range(3):
        for digests in (here, there):
            digests.add(noise(4, 1, 8, 8), -noise(4, 10))
        assert here.read() == there.read()
        there.restore(here.read())


def test_what_was_counted_stays_whatever_becomes_of_the_exits_afterwards():
    counter, exits = meter(), torch.zeros(3, dtype=torch.int64)
    for benign in (False, True, False):
        counter.count(0, exits.clone(), benign=benign)
    counter.count(0, exits, benign=False)
    exits.fill_(7)  # a defender may do as it likes with what it remembers
    tally = counter.read(rounds=0, used=0)
    assert (tally.attack.exits, tally.benign.exits) == (((9,),), ((3,),))


def test_a_digest_depends_on_every_value_and_on_the_order():
    images, targets = noise(4, 1, 8, 8), noise(4, 10)
    changed = targets.clone()
    changed[3, 9] += 1e-7
    digests = set()
    for answers in (targets, changed, targets.flip(0)):
        counter = meter()
        counter.digest(images, answers)
        counter.digest(images, targets)
        digests.add(counter.read(rounds=2, used=8).answer_digest)
    assert len(digests) == 3


def test_the_digest_of_a_round_is_the_published_formula():
    counter = meter()
    images, targets = noise(2, 1, 8, 8), noise(2, 10)
    counter.digest(images, targets)
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


def test_a_stopwatch_adds_up_what_it_ran_and_survives_an_error():
    watch = DeviceTimer(torch.device("cpu"))
    with watch:
        pass
    first = watch.read()
    with pytest.raises(KeyError), watch:
        raise KeyError
    assert 0 <= first < watch.read() < 1
