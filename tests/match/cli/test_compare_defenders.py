"""`arena compare DEFENDER`: every other defender against this one, from the command line."""

import json

import pytest
from typer.testing import CliRunner

from arena.cli.app import app


@pytest.fixture
def compare(made_up):
    """Call the command on a log with the copies of three seeds of each defender."""

    def call(copies, *words, **options):
        for defender, scores in copies.items():
            for seed, clone in enumerate(scores):
                served = 0.95 if defender == "undefended" else 0.93
                made_up.play("dfme", defender, seed, clone=clone, served_accuracy=served, **options)
        return CliRunner().invoke(app, ["compare", *words, "--log", made_up.log.where])

    return call


COPIES = {"undefended": (0.8, 0.81, 0.79), "dnf": (0.3, 0.3, 0.31)}


def test_one_name_holds_every_other_defender_against_it(compare):
    text = " ".join(compare(COPIES, "undefended").stdout.split())
    assert "how each defender differs from undefended, in points" in text
    assert "dnf +49.7*" in text


def test_its_json_has_shares_seeds_and_both_intervals(compare):
    (game,) = json.loads(compare(COPIES, "undefended", "--json").stdout)
    (dnf,) = game["defenders"]
    assert game["control"] == "undefended"
    copied = dnf["copied_less_best"]
    assert copied["mean"] == pytest.approx(0.497, abs=1e-3)
    assert copied["seeds"] == [0, 1, 2]
    # alone in its column, so that nothing is corrected
    assert copied["low"] == copied["low_uncorrected"]
    assert dnf["users_lose"]["mean"] == pytest.approx(0.02)


def test_any_defender_can_be_held_against_and_each_setting_is_a_game(compare, made_up):
    made_up.play(defender="undefended", clone=0.5, plan={"threat": {"budget": 3000}})
    made_up.play(defender="dnf", clone=0.4, plan={"threat": {"budget": 3000}})
    games = json.loads(compare(COPIES, "dnf", "--json").stdout)
    assert {game["setting"] for game in games} == {"threat.budget=1000", "threat.budget=3000"}
    assert [game["defenders"][0]["defender"] for game in games] == ["undefended"] * 2


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (["dfme"], "no defender with a successful play named 'dfme'", 2),
        (["dnf"], "expected another defender to hold against dnf", 1),
        (["dnf", "--by", "defender"], "expected two names", 2),
        (["dnf", "--equal-service"], "expected two names", 2),
    ],
)
def test_one_name_that_says_nothing_is_told_in_a_line(compare, words, told, code):
    result = compare({"dnf": (0.3,)}, *words)
    assert result.exit_code == code
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
