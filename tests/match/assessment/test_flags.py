"""Flags: each is raised by its own fault alone, and none by an attack that simply works."""

import numpy as np
import pytest

from agents.attackers.repeats import REPEATS
from arena.analysis.scoreboard import by_defender, scoreboard
from arena.assessment.assessed import assessed
from arena.assessment.comparisons import Played
from arena.assessment.flags import flags_of
from arena.assessment.page import headlines
from arena.assessment.sequence import Attack, Chosen
from arena.log.episode_filter import EpisodeFilter
from arena.log.metric import UNTRAINED
from arena.log.rows import CheckpointRow, EventRow

SEEDS = 6
ATTACKS = (
    Attack("repeats", "probe", "?"),
    Attack("noise", "control", "?"),
    Attack("dfme", "data-free", "?"),
    Attack("knockoff", "pool", "?"),
    Attack("knockoff-argmax", "pool", "?", "knockoff"),
    Attack("averaging", "pool", "?", "knockoff"),
    Attack("restored-d", "pool", "?", "knockoff"),
)
WORKS = {"noise": 0.1, "dfme": 0.7, "knockoff": 0.8, "knockoff-argmax": 0.79, "averaging": 0.7}
STEADY = {"noise": {"distance": 0.0, "near_relabelled": 0.01}}


@pytest.fixture
def judged(episode_row):
    """Test the flags of a defender and of the control, on made-up clone accuracies by attack.

    A tuple of them is of one seed after the other.
    """

    def judge(defended, *, control=WORKS, repeats=STEADY, seeds=SEEDS, untrained=(),
              usual=range(SEEDS)):  # fmt: skip
        spread = np.random.default_rng(0).normal(0, 0.004, (2, 1 + len(WORKS), seeds))
        sides = {"undefended": {**control, "repeats": None}, "d": {**defended, "repeats": None}}
        rows = [
            episode_row(attacker, defender, seed, victim_accuracy=0.95,
                        clone_accuracy=clone[seed] if isinstance(clone, tuple) else
                        clone and round(clone + spread[side, place, seed], 3))
            for side, (defender, clones) in enumerate(sides.items())
            for place, (attacker, clone) in enumerate(clones.items())
            for seed in (range(seeds) if attacker != "repeats" or side else usual)
        ]  # fmt: skip
        boards = {name: {row.attacker: row for row in found}
                  for name, found in by_defender(scoreboard(rows)).items()}  # fmt: skip
        checkpoints = {
            row.id: [CheckpointRow(index=0, queries_used=9, wall_seconds=0.0, metrics={
                UNTRAINED: row.defender == "d" and row.attacker in untrained})]
            for row in rows
        }  # fmt: skip
        events = {
            row.id: [EventRow(time=row.started, kind=REPEATS, message="", data={
                "data": repeats if row.defender == "d" else STEADY})]
            for row in rows if row.attacker == "repeats"
        }  # fmt: skip
        return {
            name: flags_of(Played(ATTACKS, found, boards["undefended"], checkpoints, events))
            for name, found in boards.items()
        }

    return judge


def raised(flags):
    return [flag.name for flag in flags if flag.state == "raised"]


def test_attacks_that_work_raise_no_flag(judged):
    found = judged({**WORKS, "dfme": 0.5, "knockoff": 0.6, "knockoff-argmax": 0.6,
                             "averaging": 0.5})  # fmt: skip
    assert raised(found["undefended"]) == raised(found["d"]) == []
    assert {flag.state for flag in found["d"]} == {"clear"}


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"knockoff": 0.6, "averaging": 0.5}, "argmax beats soft"),
        ({"averaging": 0.86, "dfme": 0.76}, "countermeasure beats plain"),
        ({"dfme": 0.3}, "pool beats data-free"),
        (dict.fromkeys(WORKS, 0.1), "control matches attack"),
        ({"dfme": 0.7, "averaging": 0.03}, "clone below chance"),
    ],
)
def test_a_fault_raises_its_flag_alone(judged, change, flag):
    found = judged({**WORKS, **change})
    assert raised(found["d"]) == [flag]
    assert raised(found["undefended"]) == []


def test_a_restorer_of_one_defence_is_no_lead_of_the_pool(judged):
    """It met the defended victim alone; what it gains is a countermeasure's."""
    found = judged({**WORKS, "restored-d": 0.95})
    assert raised(found["d"]) == ["countermeasure beats plain"]


def test_the_evidence_of_a_gain_over_noise_is_of_one_that_is_shown(judged):
    wild = {"dfme": 0.4, "knockoff": (0.99, 0.1) * 3, "knockoff-argmax": 0.5, "averaging": 0.4}
    found = {flag.name: flag for flag in judged({**WORKS, **wild})["d"]}
    flag = found["control matches attack"]
    assert flag.state == "clear"
    assert flag.evidence.startswith("knockoff-argmax less noise")


def test_near_copies_are_held_against_the_seeds_that_were_asked_undefended(judged):
    near = {"noise": {"distance": 0.0, "near_relabelled": 0.3}}
    (flag,) = (one for one in judged(WORKS, repeats=near, usual=())["d"]
               if one.name == "answers vary")  # fmt: skip
    assert (flag.state, "not asked about undefended" in flag.evidence) == ("clear", True)
    assert "answers vary" in raised(judged(WORKS, repeats=near, usual=(2,))["d"])


def test_a_clone_below_chance_is_seen_beside_one_that_is_lower_and_varies(judged):
    varying = {"averaging": 0.045, "knockoff-argmax": (0.0, 0.13, 0.0, 0.0, 0.13, 0.0)}
    assert "clone below chance" in raised(judged({**WORKS, **varying})["d"])
    assert "clone below chance" not in raised(judged({**WORKS, **varying, "averaging": 0.2})["d"])


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"knockoff-argmax": 0.6}, "argmax beats soft"),
        ({"averaging": 0.5}, "countermeasure beats plain"),
        ({"knockoff": 0.3, "knockoff-argmax": 0.3, "averaging": 0.3}, "pool beats data-free"),
    ],
)
def test_the_same_difference_the_other_way_round_raises_nothing(judged, change, flag):
    assert flag not in raised(judged({**WORKS, **change})["d"])


@pytest.mark.parametrize(
    ("repeats", "varies"),
    [
        (STEADY, False),
        ({"noise": {"distance": 0.2, "near_relabelled": 0.01}}, True),
        ({"noise": {"distance": 0.0, "near_relabelled": 0.3}}, True),
        ({"pool": {"distance": 0.2, "near_relabelled": 0.0}, **STEADY}, True),
        ({"pool": {"distance": "far", "near_relabelled": 0.0}, "noise": 3, **STEADY}, False),
    ],
)
def test_answers_that_vary_are_told(judged, repeats, varies):
    assert ("answers vary" in raised(judged(WORKS, repeats=repeats)["d"])) == varies


def test_weak_attacks_are_told_of_every_defender(judged):
    weak = {**dict.fromkeys(WORKS, 0.4), "noise": 0.1}
    found = judged(weak, control=weak)
    for one in found.values():
        assert raised(one) == ["undefended not extracted"]


def test_one_seed_leaves_a_large_difference_undecided(judged):
    found = judged({**WORKS, "knockoff": 0.5}, seeds=1)["d"]
    states = {flag.name: flag.state for flag in found}
    assert states["argmax beats soft"] == states["control matches attack"] == "undecided"


def test_a_clone_with_its_initial_weights_is_told(judged):
    found = judged(WORKS, untrained=["dfme", "noise"])["d"]
    assert raised(found) == ["untrained clone"]
    assert "never trained: dfme" in [flag.evidence for flag in found]


def test_the_worst_case_takes_the_best_clone_of_each_seed(made_up):
    for seed, (soft, hard) in enumerate([(0.8, 0.4), (0.4, 0.9)]):
        made_up.play("knockoff", "d", seed, clone=soft)
        made_up.play("knockoff-argmax", "d", seed, clone=hard)
        made_up.play("noise", "d", seed, clone=0.3 + 0.2 * seed)
    found = assessed(made_up.log, made_up.log.episodes(EpisodeFilter()), Chosen(ATTACKS, ()))
    (one,) = found.budgets[0].defenders
    assert one.worst.clone.mean == pytest.approx(0.85)
    assert one.worst.by == "knockoff-argmax"
    assert headlines(found)[0].startswith("d: the worst case is a clone with 85.0%")


def test_an_attacker_may_take_what_noise_teaches(made_up):
    made_up.play("dfme", "d", 0, clone=0.7)
    made_up.play("noise", "d", 0, clone=0.8)
    found = assessed(made_up.log, made_up.log.episodes(EpisodeFilter()), Chosen(ATTACKS, ()))
    (one,) = found.budgets[0].defenders
    assert (one.worst.clone.mean, one.worst.by) == (0.8, "noise")
