"""Values that something else wrote into a log are named, and end nothing."""

import sqlite3
from contextlib import suppress

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log.checking import check
from arena.log.store import Log
from arena.report.live import LivePage
from envs.errors import ArenaError

INFINITE = float("inf")
DAMAGE = {
    ("episode", "plan"): ("{", '{"a": NaN,', "\x00", b"\xff\xfe", "[1]"),
    ("episode", "exit_names"): ("[", "5", "[1]", "[[1]]"),
    ("episode", "started"): ("yesterday", "2026-13-45", "", "now", 5),
    ("episode", "seed"): ("many", 3.5),
    ("episode", "error"): (b"\xff",),
    ("run", "created"): ("0", "soon"),
    ("run", "versions"): ("{'torch': 1}",),
    ("round", "attack_exits"): ("[[1, 2", "7", '[["a"]]', "[[1.5]]", "[1, 2]"),
    ("round", "attack_answered"): (b"12",),
    ("round", "countermeasure"): ("[]",),
    ("checkpoint", "metrics"): ("nan", "{]", "3"),
    ("checkpoint", "queries_used"): (b"\xff\x00", "x"),
    ("checkpoint", "clone_accuracy"): ("high", -0.5, 1e300, INFINITE),
    ("checkpoint", "wall_seconds"): (INFINITE,),
    ("episode", "wall_seconds"): (INFINITE, -INFINITE),
    ("episode", "served_agreement"): (1.5,),
    ("round", "benign_seconds"): (INFINITE,),
    ("event", "time"): ("now and then",),
}
COMMANDS = (["log", "check"], ["episodes"], ["episodes", "--json"], ["export", "rounds"],
            ["payoff"], ["compare", "dfme", "noise"])  # fmt: skip
CASES = [(place, value) for place, values in DAMAGE.items() for value in values]


@pytest.mark.parametrize(
    ("place", "value"),
    [pytest.param(*case, marks=[] if number % 5 == 0 else pytest.mark.slow)
     for number, case in enumerate(CASES)],
)  # fmt: skip
def test_a_damaged_value_is_named_and_no_command_dies_of_it(made_up, place, value):
    table, column = place
    made_up.play(events=[("found", "something", {})])
    with sqlite3.connect(made_up.log.where) as connection:
        connection.execute(f"UPDATE {table} SET {column} = ?", (value,))
    connection.close()
    with Log.open(made_up.log.where, read_only=True) as log:
        (found,) = {one.message for one in check(log) if one.what == "values"}
        assert f"its {column} is no" in found
        for part in (LivePage(log).page, LivePage(log).now):
            with suppress(ArenaError, TypeError):  # both are an answer of the server
                part()
    for command in COMMANDS:
        result = CliRunner().invoke(app, [*command, "--log", made_up.log.where])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "--debug" not in result.output
        if command == ["log", "check"]:
            assert f"its {column} is no" in result.output


def test_an_episode_that_was_closed_as_dead_is_shown(made_up):
    id = made_up.play(status="started")
    with sqlite3.connect(made_up.log.where) as connection:
        connection.execute("UPDATE episode SET host = 'elsewhere'")
    connection.close()
    for words in (["log", "close", id], ["episodes", "show", id]):
        result = CliRunner().invoke(app, [*words, "--log", made_up.log.where])
        assert result.exit_code == 0, result.output
    assert "closed by hand; its process was" in result.output
    assert [event.data for event in made_up.log.events(id)] == [{}]


def test_a_sound_log_has_none(made_up):
    made_up.play(events=[("found", "something", {})])
    assert check(made_up.log) == []


@pytest.mark.parametrize("exits", ["[]", "[[1, 2, 3]]", "[[1], [2], [3]]"])
def test_sides_with_exits_of_different_defences_are_shown(made_up, exits):
    id = made_up.play()
    with sqlite3.connect(made_up.log.where) as connection:
        connection.execute("UPDATE round SET benign_exits = ?", (exits,))
    connection.close()
    result = CliRunner().invoke(app, ["episodes", "show", id, "--log", made_up.log.where])
    assert result.exit_code == 0, result.output
    assert "exit %" in result.output
