"""Players inside players: a campaign's phases as a scenario writes them."""

import pytest

from agents.attackers.campaign import Campaign
from agents.attackers.confidence_filter import ConfidenceFilter
from agents.attackers.noise import Noise
from arena.registry import players
from envs.errors import ScenarioError

PHASES = [
    {"use": "noise", "share": 0.2},
    {"use": "confidence-filter", "params": {"threshold": 0.9}, "share": 0.8},
]


def test_phases_are_built_by_name():
    campaign = players.create("attacker", "campaign", {"phases": PHASES})
    assert isinstance(campaign, Campaign)
    assert [type(phase) for phase in campaign._phases] == [Noise, ConfidenceFilter]
    assert campaign._shares == [0.2, 0.8]
    assert campaign.requires == {"soft-labels"}


def test_a_name_stands_for_a_table():
    campaign = players.create("attacker", "campaign", {"phases": ["noise", "noise"]})
    assert campaign._shares == [1.0, 1.0]


def test_a_plan_holds_the_defaults_of_every_phase_and_builds_the_same():
    params, _ = players.attackers.resolve("campaign", {"phases": PHASES})
    assert params["shares"] == [0.2, 0.8]
    first, second = params["phases"]
    assert first == {
        "use": "noise",
        "params": {"batch": None, "clone_rate": None, "loss": "auto"},
        "code": "",
    }
    assert second["params"]["threshold"] == 0.9
    again = players.create("attacker", "campaign", params)
    assert isinstance(again, Campaign)
    assert players.attackers.resolve("campaign", params)[0] == params


def test_campaigns_may_hold_campaigns():
    inner = {"use": "campaign", "params": {"phases": ["noise"]}}
    campaign = players.create("attacker", "campaign", {"phases": [inner, "noise"]})
    assert isinstance(campaign._phases[0], Campaign)


@pytest.mark.parametrize(
    ("phases", "words"),
    [
        ([{"use": "nois"}], "no attacker named 'nois'; did you mean 'noise'"),
        ([{"share": 1}], r"phases.0: expected a name or a table with 'use'"),
        ([3], r"phases.0: expected a name or a table with 'use', got 3"),
        (["noise", {"use": "noise", "share": 1}], "give 'share' to every entry, or to none"),
        ([{"use": "noise", "shar": 1}], "unknown key 'shar'"),
        ([{"use": "noise", "params": {"batsh": 1}}], r"phases.0.params.batsh: unknown parameter"),
        ([{"use": "noise", "share": "much"}], "shares.0: expected a number"),
        ("noise", "phases"),
    ],
)
def test_what_is_wrong_inside_is_told_with_its_place(phases, words):
    with pytest.raises(Exception, match=words) as refusal:
        players.create("attacker", "campaign", {"phases": phases})
    assert isinstance(refusal.value, ScenarioError) or "did you mean" in str(refusal.value)
