"""Which keys of a plan tell meetings apart."""

import pytest

from arena.scenario.plan import EpisodePlan
from arena.scenario.settings import FOLLOW_FROM_THE_SEED, ONLY_MEASURE, flat, settings_of


def test_every_key_that_is_no_setting_is_one_of_a_plan():
    assert set(EpisodePlan.model_fields) >= FOLLOW_FROM_THE_SEED | ONLY_MEASURE


@pytest.mark.parametrize("measuring", [True, False])
def test_what_follows_from_the_seed_is_no_setting_and_measuring_is_one_on_demand(measuring):
    plan = dict.fromkeys(EpisodePlan.model_fields, 1)
    settings = settings_of(plan, measuring=measuring)
    assert not FOLLOW_FROM_THE_SEED & settings.keys()
    assert (settings.keys() >= ONLY_MEASURE) is measuring
    assert {"threat", "attacker", "defender", "victim"} <= settings.keys()


def test_tables_and_lists_become_dotted_paths():
    plan = {"defender": {"defence": [{"use": "dnf"}, {"use": "none"}]}, "seed": 3}
    assert flat(plan) == {
        "defender.defence.0.use": "dnf",
        "defender.defence.1.use": "none",
        "seed": 3,
    }
