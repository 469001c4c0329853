"""Leaderboards: ranks that a test carries, equal service, the setting that stands for a defence."""

import pytest
import tomli_w

from arena.assessment.leaderboard import leaderboards
from arena.assessment.leaderboard_page import board_text, write_leaderboard
from arena.assessment.sequence import assessed_scenario, chosen
from arena.scenario.scenario import Scenario

SEEDS = 6


@pytest.fixture
def board(episode_row):
    """Make the board of defenders with (clone accuracy, served accuracy) or knob as third."""

    def make(defenders, loss=0.005, attackers=("dfme",)):
        rows = [
            episode_row(
                attacker, name.partition("@")[0] + ("" if "@" not in name else f" e={values[2]}"),
                seed,
                clone_accuracy=round(values[0] + 0.002 * (seed % 3) - 0.05 * place, 3),
                served_accuracy=values[1],
                victim_accuracy=0.95,
                plan={"seed": seed, "defender": {"defence": [
                    {"use": name.partition("@")[0], "params": {"e": (*values, None)[2]}}]}},
            )
            for place, attacker in enumerate(attackers)
            for name, values in defenders.items()
            for seed in range(SEEDS)
        ]  # fmt: skip
        return leaderboards(None, rows, loss=loss)

    return make


def ranks(boards):
    ((_, places),) = boards
    return [(one.defence, one.rank) for one in places]


def test_a_rank_counts_the_defences_that_are_shown_to_be_copied_less(board):
    found = board({"undefended": (0.9, 0.95), "weak": (0.9, 0.95), "strong": (0.4, 0.95),
                   "middle": (0.6, 0.95)})  # fmt: skip
    assert ranks(found) == [("strong", 1), ("middle", 2), ("undefended", 3), ("weak", 3)]


def test_ranks_follow_the_seeds_that_both_were_played_on(episode_row):
    """Alone on easy seeds the second looks better; on those of both it is copied more."""
    clones = {"undefended": [0.9] * 6, "first": [0.3] * 3 + [0.8] * 3, "second": [0.5] * 3}
    rows = [
        episode_row("dfme", name, seed, clone_accuracy=round(value + 0.002 * (seed % 3), 3),
                    served_accuracy=0.95, victim_accuracy=0.95,
                    plan={"seed": seed, "defender": {"defence": [{"use": name}]}})
        for name, values in clones.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    found = ranks(leaderboards(None, rows, loss=0.005))
    assert [name for name, _ in found[:2]] == ["first", "second"]
    assert found[0][1] < found[1][1]


def test_what_serves_worse_is_listed_last_without_a_rank(board):
    defenders = {"undefended": (0.9, 0.95), "strong": (0.1, 0.92), "fair": (0.5, 0.946)}
    assert ranks(board(defenders)) == [("fair", 1), ("undefended", 2), ("strong", None)]
    assert ranks(board(defenders, loss=0.03))[0] == ("strong", 1)
    assert ranks(board(defenders, loss=0.003)) == [
        ("undefended", 1), ("strong", None), ("fair", None),
    ]  # fmt: skip


def test_a_defence_counts_by_its_strongest_setting_that_serves_well(board):
    ((_, places),) = board({
        "undefended": (0.9, 0.95),
        "d@1": (0.8, 0.95, 0.1),
        "d@2": (0.6, 0.946, 0.2),
        "d@3": (0.2, 0.8, 0.3),
    })  # fmt: skip
    first = places[0]
    assert (first.defence, first.setting, first.settings, first.rank) == ("d", "d e=0.2", 3, 1)
    assert first.worst.mean == pytest.approx(0.602)
    assert first.lost == pytest.approx(0.004)


def test_the_best_of_many_settings_has_to_lead_by_more(episode_row):
    """A lead that a test shows of one setting may be the luckiest of five alike."""
    lead = [0.01001, 0.03, 0.02, 0.05, 0.0, 0.03]

    def rank(settings):
        clones = {"undefended": [0.6] * 6}
        for knob in range(settings):
            behind = 0.001 * knob
            clones[f"d e={knob + 1}"] = [0.6 - one + behind for one in lead]
        rows = [
            episode_row("dfme", name, seed, clone_accuracy=round(value, 5),
                        served_accuracy=0.95, victim_accuracy=0.95,
                        plan={"seed": seed, "defender": {"defence": [
                            {"use": name[0], "params": {"e": float(name[-1]) if "=" in name
                                                        else None}}]}})
            for name, values in clones.items()
            for seed, value in enumerate(values)
        ]  # fmt: skip
        return dict(ranks(leaderboards(None, rows, loss=0.005)))

    alone, chosen_of_five = rank(1), rank(5)
    assert (alone["d e=1"], alone["undefended"]) == (1, 2)
    assert set(chosen_of_five.values()) == {1}


def test_the_best_attack_counts(board):
    ((_, places),) = board({"undefended": (0.9, 0.95), "d": (0.5, 0.95)},
                           attackers=("dfme", "knockoff"))  # fmt: skip
    assert (places[0].by, places[0].attackers) == ("dfme", 2)
    assert places[0].worst.mean == pytest.approx(0.502)


def test_without_the_control_there_is_no_board(board):
    assert board({"d": (0.5, 0.95)}) == []


def test_flags_are_told_of_an_assessment_alone(made_up, tmp_path):
    raw = {"version": 1, "name": "s", "data": "digits", "victim": "conv-small",
           "clone": "mlp-small", "seeds": [0], "threat": {"budget": 1000},
           "attackers": ["noise"], "defenders": [{"defence": "truncation"}]}  # fmt: skip
    given = Scenario.parse({**raw, "attackers": [{"use": "noise"}]})
    played = assessed_scenario(given, chosen(given).attacks, 1000)
    for scenario, text in (
        ("assess-s", played.text),
        ("s", tomli_w.dumps(raw)),
        ("assess-torn", "= ["),
    ):
        for seed in range(3):
            for defender, clone in (("undefended", 0.9), ("truncation", 0.5)):
                for attacker in ("noise", "dfme"):
                    made_up.play(attacker, defender, seed, scenario=scenario, text=text,
                                 clone=clone + 0.01 * seed)  # fmt: skip
    boards = leaderboards(made_up.log, made_up.log.episodes(), loss=0.005)
    flags = {one.game.scenario: [place.flags for place in one.places] for one in boards}
    assert flags["s"] == flags["assess-torn"] == [None, None]
    assert all("control matches attack" in {one.name for one in of} for of in flags["assess-s"])
    page = write_leaderboard(boards, 0.005, tmp_path / "board.html").read_text()
    for line in (line for one in boards for line in board_text(one).lines):
        assert line.defence in page
        assert line.worst.mean in page
    assert "control matches attack" in page
