"""The table of the real clock: its cells, what they play, and how games are counted."""

from io import StringIO
from types import SimpleNamespace

import pytest

from arena.scenario import load
from benchmarks import real_clock, real_clock_table
from benchmarks.real_clock_table import Cell, Said, cells

CELL = Cell("mobilenetv2", "served", "loaded", "plain")


def said(seed, exits, right, sure):
    named = ("mobilenet", True, 0.9)
    words = {"exits_visited": (exits, right, sure), "family": named, "depth": (None, None, 0.0)}
    return Said(SimpleNamespace(seed=seed, queries_used=700 + seed), words)


def test_every_victim_is_played_in_every_place_state_and_defence():
    assert len(set(cells())) == 24
    assert len({cell.name for cell in cells()}) == 24


def test_a_row_counts_right_unknown_and_wrong_games_and_who_was_sure_of_a_wrong_word():
    games = [said(0, 4, True, 1.0), said(1, None, None, 0.0), said(2, 5, False, 0.9),
             said(3, 3, False, 0.7)]  # fmt: skip
    cells = [one.strip() for one in real_clock_table.row_of(CELL, games, "0.3").split("|")[1:-1]]

    assert cells == ["mobilenetv2", "served", "loaded", "plain", "4", "1, 1, 2", "4, 0, 0",
                     "0, 4, 0", "1", "702", "0.3"]  # fmt: skip


@pytest.mark.parametrize("cell", cells()[:3] + cells()[-3:])
def test_a_cell_plays_one_victim_against_one_defender(cell, tmp_path):
    file = tmp_path / "cell.toml"
    file.write_text(real_clock.local_scenario(cell), encoding="utf-8")
    scenario = load(file)

    assert (scenario.victim.use, [one.name for one in scenario.defenders]) == (
        cell.victim,
        [cell.defender],
    )
    assert (scenario.threat.latency, scenario.threat.budget) == (
        "wall",
        load("real_clock").threat.budget,
    )


def test_a_client_knows_an_address_and_no_more(tmp_path):
    file = tmp_path / "client.toml"
    file.write_text(real_clock.client_scenario(CELL, "http://127.0.0.1:8151/v2/models/victim"))
    scenario = load(file)

    assert scenario.victim.is_remote
    shipped = load("real_clock")
    assert scenario.threat.budget == shipped.threat.budget
    assert [one.params for one in scenario.attackers] == [one.params for one in shipped.attackers]
    assert scenario.victim.architecture.depth == 53  # what guesses are scored against


def test_what_a_server_tells_is_read():
    lines = "Open Inference Protocol v2, model http://127.0.0.1:9/v2/models/victim\n" \
            "key of red: abc (600 queries)\nkey of blue: d-_e (600 queries)\n"  # fmt: skip
    keys = real_clock._told(SimpleNamespace(stdout=StringIO(lines)))

    assert keys == ("http://127.0.0.1:9/v2/models/victim", {"red": "abc", "blue": "d-_e"})


def test_exits_are_counted_by_what_they_cost():
    victim = real_clock_table.outline(CELL)

    assert victim.num_exits == 4
    assert real_clock_table.visited_exits(victim, [300, 0, 200, 100]) == ((0,), (2,), (3,))
    assert real_clock_table.outline(CELL._replace(defender="undefended")).num_exits == 1
