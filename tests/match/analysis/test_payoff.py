"""The payoff matrix and its equilibrium, on games whose solution is known."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from arena.analysis import equilibrium
from arena.analysis.equilibrium import exploitability, solve, value_interval
from arena.cli.app import app

GAMES = {
    # rock, paper, scissors: von Neumann's example; value 0, each a third
    "rock-paper-scissors": (
        [[0, -1, 1], [1, 0, -1], [-1, 1, 0]], 0.0, [1 / 3] * 3, [1 / 3] * 3,
    ),
    "matching-pennies": ([[1, -1], [-1, 1]], 0.0, [0.5, 0.5], [0.5, 0.5]),
    # no saddle point: by hand p = 6 / 8 and q = 5 / 8
    "two-by-two": ([[3, 1], [0, 6]], 2.25, [0.75, 0.25], [0.625, 0.375]),
    # a saddle point: the second row is best whatever comes, the first column likewise
    "saddle": ([[0.1, 0.2], [0.3, 0.9]], 0.3, [0, 1], [1, 0]),
}  # fmt: skip


@pytest.fixture
def few_resamples(monkeypatch):
    """Resample an equilibrium a few times only, where its interval is not looked at."""
    monkeypatch.setattr(equilibrium, "RESAMPLES", 19)


@pytest.mark.parametrize("name", GAMES)
def test_games_with_a_known_solution_are_solved(name):
    payoff, value, attacker, defender = GAMES[name]
    found = solve(np.array(payoff, dtype=float))
    assert found.value == pytest.approx(value, abs=1e-9)
    assert found.attacker == pytest.approx(attacker, abs=1e-9)
    assert found.defender == pytest.approx(defender, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_nobody_gains_by_leaving_an_equilibrium(rows, columns, seed):
    payoff = np.random.default_rng(seed).random((rows, columns))
    found = solve(payoff)
    assert exploitability(payoff, found.attacker, found.defender) == pytest.approx(0, abs=1e-6)
    assert (payoff @ found.defender).max() <= found.value + 1e-6
    assert (found.attacker @ payoff).min() >= found.value - 1e-6


@pytest.mark.parametrize("payoff", [[[np.nan]], [], [[]], [1.0]])
def test_what_is_no_game_is_refused(payoff):
    with pytest.raises(ValueError, match="expected"):
        solve(np.array(payoff, dtype=float))


def test_the_interval_of_the_value_holds_it_and_one_seed_has_none(few_resamples):
    games = np.random.default_rng(1).normal(0.5, 0.05, (8, 2, 3))
    found = value_interval(games, np.random.default_rng(0))
    assert found.low < found.mean < found.high
    assert value_interval(games[:1], np.random.default_rng(0)).low is None
    alike = np.repeat(games[:1], 3, axis=0)
    same = value_interval(alike, np.random.default_rng(0))
    assert same.low == pytest.approx(same.high)


@pytest.fixture
def cli(made_up):
    def call(*words, code=0):
        result = CliRunner().invoke(app, ["payoff", *words, "--log", made_up.log.where])
        assert result.exit_code == code, result.output
        return result

    return call


def play(made_up, cells, **outcome):
    for (attacker, defender), scores in cells.items():
        for seed, clone in enumerate(scores):
            made_up.play(attacker, defender, seed, clone=clone, **outcome)


CELLS = {
    ("loud", "bare"): (0.9, 0.8), ("loud", "gate"): (0.1, 0.2),
    ("quiet", "bare"): (0.4, 0.4), ("quiet", "gate"): (0.5, 0.5),
}  # fmt: skip


def test_the_command_gives_matrix_equilibrium_and_exploitability(made_up, cli, few_resamples):
    play(made_up, CELLS)
    (told,) = json.loads(cli("--json").stdout)["games"]
    # means 0.85 0.15 / 0.4 0.5: by hand p = 0.1 / 0.8 = 1/8, q = 0.35 / 0.8 = 7/16
    assert told["attacker"] == pytest.approx({"loud": 0.125, "quiet": 0.875})
    assert told["defender"] == pytest.approx({"bare": 0.4375, "gate": 0.5625})
    assert told["value"]["mean"] == pytest.approx(0.45625)
    assert told["worst"] == pytest.approx({"bare": 0.85, "gate": 0.5})
    assert told["exploitability"]["gate"] == pytest.approx(0.5 - 0.45625)
    assert told["seeds"] == [0, 1]
    text = cli().stdout
    assert "value of the game: 45.6 %" in text
    assert "too narrow" in text


def test_prices_move_what_a_defender_loses(made_up, cli, few_resamples):
    play(made_up, {("loud", "bare"): (0.5,)}, served_accuracy=0.95)
    play(made_up, {("loud", "gate"): (0.5,)}, served_accuracy=0.85)
    (told,) = json.loads(cli("--json", "--utility-price", "1").stdout)["games"]
    assert told["worst"] == pytest.approx({"bare": 0.5, "gate": 0.6})
    (dear,) = json.loads(cli("--json", "--compute-price", "0.5").stdout)["games"]
    assert dear["worst"] == pytest.approx({"bare": 0.95, "gate": 0.95})


def test_a_meeting_that_was_not_played_is_named(made_up, cli, few_resamples):
    cells = dict(CELLS)
    del cells["quiet", "gate"]
    play(made_up, cells)
    assert "missing: quiet against gate;" in cli(code=1).stderr
    cli("--attacker", "loud")


def test_each_setting_is_a_game_of_its_own(made_up, cli, few_resamples):
    """A defender cannot choose the attacker's budget, nor the scenario."""
    play(made_up, CELLS)
    play(made_up, dict.fromkeys(CELLS, (0.2, 0.3)), budget=9, plan={"threat": {"budget": 9}})
    play(made_up, {("loud", "bare"): (0.7,)}, scenario="other")
    told = json.loads(cli("--json").stdout)
    assert [(game["scenario"], game["setting"]) for game in told["games"]] == [
        ("made-up", "threat.budget=1000"), ("made-up", "threat.budget=9"), ("other", ""),
    ]  # fmt: skip
    assert [set(game["defender"]) for game in told["games"]] == [
        {"bare", "gate"}, {"bare", "gate"}, {"bare"},
    ]  # fmt: skip
    assert told["games"][1]["value"]["mean"] == pytest.approx(0.25)
    assert told["left_out"] == []
    text = cli().stdout
    assert "made-up, threat.budget=9\n" in text
    assert "other\n" in text
    (one,) = json.loads(cli("--json", "--where", "threat.budget=9").stdout)["games"]
    assert one["setting"] == ""


def test_a_game_that_lacks_a_meeting_is_left_out_and_named(made_up, cli, few_resamples):
    play(made_up, CELLS)
    some = dict.fromkeys(list(CELLS)[:3], (0.5, 0.5))
    play(made_up, some, named={"clone": "vgg"}, plan={"clone": {"use": "vgg"}})
    text = cli().stdout
    assert "left out: made-up, clone.use=vgg: expected a clone accuracy of every meeting" in text
    assert len(json.loads(cli("--json").stdout)["games"]) == 1
