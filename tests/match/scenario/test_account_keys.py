"""What a scenario says of the attacker's accounts, and what it may not say."""

import pytest

from arena.scenario import EpisodePlan, Scenario
from envs.errors import ScenarioError

USUAL = {"accounts": 1, "account_policy": "one", "account_price": 0.0, "query_price": 1.0}
UNUSUAL = {
    "accounts": 30,
    "account_budget": 1000,
    "account_policy": "blocks",
    "account_price": 2.5,
    "query_price": 0.001,
}


def scenario(tiny, **threat):
    return Scenario.parse(tiny(threat=threat))


def test_one_account_bears_on_nothing(tiny):
    (bare,), (said,) = scenario(tiny).plans(), scenario(tiny, **USUAL).plans()
    assert bare.hash == said.hash
    assert not bare.threat.has_accounts
    assert set(bare.model_dump(mode="json")["threat"]) & set(UNUSUAL) == set()


@pytest.mark.parametrize("key", UNUSUAL)
def test_each_key_is_kept_and_names_another_episode(tiny, key):
    (bare,), (plan,) = scenario(tiny).plans(), scenario(tiny, **{key: UNUSUAL[key]}).plans()
    assert plan.hash != bare.hash
    assert plan.threat.has_accounts
    dumped = plan.model_dump(mode="json")
    assert {name: dumped["threat"][name] for name in UNUSUAL} == {
        **USUAL, "account_budget": None, key: UNUSUAL[key]
    }  # fmt: skip
    assert EpisodePlan.model_validate(dumped).hash == plan.hash


@pytest.mark.parametrize(
    ("threat", "line"),
    [
        ({"accounts": 0}, "threat.accounts"),
        ({"accounts": 2_000_000}, "threat.accounts"),
        ({"accounts": 2.5}, "threat.accounts"),
        ({"account_budget": 0}, "threat.account_budget"),
        ({"account_budget": 999}, "1 accounts of 999 may ask for 999 images, and threat.budget is"),
        ({"accounts": 4, "account_budget": 249}, "4 accounts of 249 may ask for 996 images"),
        ({"account_policy": "random"}, "threat.account_policy"),
        ({"account_price": -1}, "threat.account_price"),
        ({"query_price": float("inf")}, "threat.query_price"),
    ],
)
def test_accounts_that_cannot_be_are_refused_in_a_line(tiny, threat, line):
    with pytest.raises(ScenarioError) as caught:
        scenario(tiny, **threat)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_victim_elsewhere_has_accounts_of_its_own(tiny):
    raw = tiny(traffic={"benign": 0.0}, threat={"accounts": 2})
    raw["victim"] = {"use": "http://127.0.0.1:1/v2/models/victim"}
    with pytest.raises(ScenarioError, match="a victim elsewhere tells accounts by their keys"):
        Scenario.parse(raw)
