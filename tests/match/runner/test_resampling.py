"""`data.resample`: each seed divides the data set anew, and everything follows that division."""

import pytest
import torch

from arena.runner.setup import Setup
from envs.data.overlap import digests
from envs.data.sources import load


@pytest.fixture
def set_up(scenario, watcher):
    def make(seed=0, **overrides):
        (plan,) = scenario({"data": {"use": "digits", "resample": True}, "seeds": [seed]},
                           **overrides).plans()  # fmt: skip
        return Setup(torch.device("cpu"), watcher), plan

    return make


def test_every_seed_has_a_division_of_its_own_with_parts_as_large_as_they_were(set_up):
    own, found = load("digits"), []
    for seed in (0, 1):
        setup, plan = set_up(seed)
        found.append(setup.images.splits(plan))
        sizes = [len(part) for part in found[-1].parts.values()]
        assert sizes == [len(part) for part in own.parts.values()]
        assert frozenset().union(*map(digests, found[-1].parts.values())) == frozenset().union(
            *map(digests, own.parts.values())
        )
        assert (found[-1].mean, found[-1].std) == found[-1].train.mean_std()
        assert setup.images.splits(plan) is found[-1]
    assert len({splits.fingerprint for splits in (own, *found)}) == 3
    assert 0.3 < len(digests(found[0].train) & digests(found[1].train)) / 897 < 0.7


def test_victims_are_cached_by_their_division(set_up):
    keys = []
    for seed in (0, 1):
        setup, plan = set_up(seed, **{"victim.seed": 7})
        keys.append(setup.victim_spec(plan).key(setup.images.splits(plan)))
    assert keys[0]["seed"] == keys[1]["seed"] == 7
    assert keys[0] != keys[1]


def test_a_pool_of_the_same_data_set_is_cut_out_of_the_same_division(set_up):
    pool = {"threat.pool.use": "digits", "threat.pool.params.split": "validation"}
    setup, plan = set_up(**pool)
    lent, overlap = setup.images.pool(plan)
    assert digests(lent) == digests(setup.images.splits(plan).validation)
    assert overlap == 0
