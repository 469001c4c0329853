"""Scenario files of older versions go on working."""

import pytest

from arena.registry import players
from arena.scenario.renames import RENAMES, with_new_names


def _scenario(**defender):
    return {"defenders": [{"name": "guard", **defender}]}


@pytest.mark.parametrize(
    ("defender", "policy"),
    [
        ({"policy": {"post": 1, "strength": 0.5}}, {"defence": 1, "strength": 0.5}),
        (
            {"use": "detector", "policy": {"calm": {"post": 1}, "ladder": [{"post": 0}]}},
            {"calm": {"defence": 1}, "ladder": [{"defence": 0}]},
        ),
    ],
)
def test_an_old_key_is_read_under_its_new_name_with_a_warning(defender, policy):
    raw, warnings = with_new_names(_scenario(**defender))
    assert raw["defenders"][0]["policy"] == policy
    assert warnings == [
        "defenders.guard.policy: 'post' is called 'defence' now; the old name still works"
    ]


@pytest.mark.parametrize(
    "defender",
    [
        {"policy": {"defence": 1}},
        {"use": "mine.py:Guard", "policy": {"post": 1}},
        {"use": ["static"], "policy": {"post": 1}},
        {"policy": {"post": 1, "defence": 0}},
        {"defence": "dnf"},
    ],
    ids=["new", "another player", "no player", "both", "no policy"],
)
def test_everything_else_is_left_alone(defender):
    raw = _scenario(**defender)
    assert with_new_names(raw) == (raw, [])


@pytest.mark.parametrize("entry", [float("nan"), 3, "static", None])
def test_what_is_no_table_is_left_for_the_checks(entry):
    raw = {"defenders": [entry]}
    table, lines = with_new_names(raw)
    assert table["defenders"][0] is entry
    assert lines == []


def test_what_was_read_is_not_changed():
    raw = _scenario(policy={"post": 1})
    with_new_names(raw)
    assert raw == _scenario(policy={"post": 1})


def test_renamed_keys_belong_to_players_that_exist():
    for rename in RENAMES:
        assert rename.uses <= set(players.of(rename.players.removesuffix("s")).names())
