"""A sweep that searches: its points, its skipping, and what it refuses."""

import json

import pytest

from arena.analysis.games import games_of
from arena.log.episode_filter import EpisodeFilter
from arena.log.store import Log
from arena.runner import searching
from arena.runner.match import play
from arena.runner.searching import Found, Worth, best_of, worth_of
from arena.scenario.scenario import Scenario
from envs.errors import ArenaError, ScenarioError

OVER = {
    "threat.budget": {"low": 4, "high": 40, "whole": True},
    "clone.use": ["mlp-small", "conv-small"],
}


def searched(tiny, search=None, *, draw=6, over=OVER, **more):
    aim = {"minimise": "attack_answered"} if search is None else search
    return Scenario.parse(tiny(sweep={"over": over, "draw": draw, "search": aim}, **more))


def asked(result):
    return [(row.budget, row.clone, row.seed) for row in result.episodes]


def contents(log):
    return sorted((row.plan_hash, row.query_digest, row.answer_digest, row.clone_accuracy)
                  for row in log.episodes(EpisodeFilter(status="success")))  # fmt: skip


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna")


@pytest.mark.usefixtures("optuna")
class TestPlayed:
    def test_the_same_file_plays_the_same_points_and_skips_them_the_next_time(self, tiny, tmp_path):
        with Log.open(tmp_path / "a.db") as log:
            first = play(searched(tiny), log=log)
            again = play(searched(tiny), log=log)
        with Log.open(tmp_path / "b.db") as log:
            elsewhere = play(searched(tiny), log=log)
        assert asked(first) == asked(again) == asked(elsewhere)
        assert (first.skipped, again.skipped) == (0, len(again.episodes))
        assert first.best == again.best
        with Log.open(tmp_path / "a.db") as log:
            other = Scenario.parse(
                tiny(sweep={"over": OVER, "draw": 6, "seed": 1,
                            "search": {"minimise": "attack_answered"}})
            )  # fmt: skip
            assert asked(play(other, log=log)) != asked(first)

    def test_a_longer_search_begins_with_the_points_of_a_shorter_one(self, tiny, tmp_path):
        with Log.open(tmp_path / "a.db") as log:
            short = play(searched(tiny, draw=4), log=log)
            long = play(searched(tiny, draw=14), log=log)
        assert asked(long)[: len(short.episodes)] == asked(short)
        assert long.skipped == len(short.episodes)

    def test_later_points_follow_from_what_was_played(self, tiny, tmp_path):
        over = {"threat.budget": {"low": 4, "high": 400, "whole": True}}
        budgets = {}
        for aim in ("minimise", "maximise"):
            one = searched(tiny, {aim: "attack_answered"}, draw=30, over=over, checkpoints=1)
            with Log.open(tmp_path / f"{aim}.db") as log:
                found = play(one, log=log)
                assert len({row.run_id for row in found.episodes}) == 1
            budgets[aim] = [row.budget for row in found.episodes]
            choose = min if aim == "minimise" else max
            assert found.best.value == choose(budgets[aim]) == found.best.values["threat.budget"]
        # ten points are drawn at random first, the same ones
        assert budgets["minimise"][:10] == budgets["maximise"][:10]
        late = {aim: sum(found[10:]) / len(found[10:]) for aim, found in budgets.items()}
        assert late["minimise"] < 150
        assert late["maximise"] > 250

    def test_what_is_below_the_floor_is_not_the_best(self, tiny, tmp_path):
        search = {"minimise": "attack_answered", "at_least": {"attack_answered": 15}}
        with Log.open(tmp_path / "a.db") as log:
            found = play(searched(tiny, search, draw=12), log=log)
        assert found.best.value == min(row.budget for row in found.episodes if row.budget >= 15)
        assert found.best.below > 0

    def test_points_that_are_chosen_together_are_played_together(self, tiny, tmp_path):
        search = {"minimise": "attack_answered", "together": 3}
        with Log.open(tmp_path / "a.db") as log:
            one = play(searched(tiny, search), log=log)
        with Log.open(tmp_path / "b.db") as log:
            two = play(searched(tiny, search), log=log, workers=2)
        assert asked(one) == asked(two)

    def test_a_search_that_is_broken_off_five_times_ends_as_an_unbroken_one(
        self, tiny, tmp_path, monkeypatch
    ):
        with Log.open(tmp_path / "whole.db") as log:
            whole = play(searched(tiny, draw=8), log=log)
            unbroken = contents(log)
        real = searching.Chooser.tell

        def breaks_off(self, worths):
            real(self, worths)
            told.append(worths)
            if len(told) == next_stop:
                raise KeyboardInterrupt

        with Log.open(tmp_path / "broken.db") as log:
            for next_stop in (1, 3, 4, 6, 7):  # noqa: B007 -- the function above reads it
                told = []
                with monkeypatch.context() as patch:
                    patch.setattr(searching.Chooser, "tell", breaks_off)
                    with pytest.raises(KeyboardInterrupt):
                        play(searched(tiny, draw=8), log=log)
            resumed = play(searched(tiny, draw=8), log=log)
            assert contents(log) == unbroken
        assert asked(resumed) == asked(whole)
        assert resumed.skipped == 7

    def test_each_point_is_a_game(self, tiny, tmp_path):
        with Log.open(tmp_path / "a.db") as log:
            found = play(searched(tiny), log=log)
        assert len(games_of(found.episodes)) == len({one[:2] for one in asked(found)})


def test_without_optuna_one_line_tells_what_to_install(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with Log.open(tmp_path / "a.db") as log, pytest.raises(ArenaError) as refused:
        play(searched(tiny), log=log)
    assert str(refused.value) == "sweep.search needs Optuna: pip install 'fortress-arena[optuna]'"


@pytest.mark.parametrize(
    ("search", "more", "line"),
    [
        ({}, {}, "expected either minimise or maximise"),
        ({"minimise": "clone_accuracy", "maximise": "clone_accuracy"}, {}, "expected either"),
        ({"minimise": "clone_acuracy"}, {}, "no measure is named 'clone_acuracy'; expected one of"),
        ({"minimise": "query_digest"}, {}, "no measure is named 'query_digest'"),
        ({"minimise": "clone_accuracy", "at_least": {"service": 1}}, {}, "is named 'service'"),
        ({"minimise": "clone_accuracy", "by": "luck"}, {}, "sweep.search.by"),
        ({"minimise": "clone_accuracy", "together": 0}, {}, "sweep.search.together"),
        ({"minimise": "clone_accuracy"}, {"draw": None}, "draw: missing; a search needs"),
    ],
)
def test_no_search_is_refused_in_one_line(tiny, search, more, line):
    sweep = {"over": {"threat.budget": [4, 8]}, "draw": 3, "search": search} | more
    with pytest.raises(ScenarioError) as refused:
        Scenario.parse(tiny(sweep={key: one for key, one in sweep.items() if one is not None}))
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_value_that_may_be_chosen_is_checked_before_the_first_is_played(tiny):
    for over, fault in [
        ({"threat.budget": {"low": -5, "high": 5, "whole": True}}, "threat.budget=-5"),
        ({"clone.use": ["mlp-small", "conv-small", "nothing"]}, "nothing"),
        ({"threat.budget": [4], "traffic.benign": {"low": 0.1, "high": 1.5}}, "traffic.benign=1.5"),
    ]:
        with pytest.raises(ScenarioError, match=fault):
            searched(tiny, over=over).check()
    searched(tiny).check()


def test_the_plans_of_a_search_are_not_known_before_it_is_played(tiny):
    one = searched(tiny)
    with pytest.raises(ScenarioError, match="its points follow from results"):
        one.plans()
    assert one.size == 6 * len(one.pairs) * len(one.seeds)
    assert json.loads(json.dumps(one.sweep.search.model_dump()))["by"] == "tpe"


class Row:
    def __init__(self, attacker, seed, clone, served, status="success"):
        self.attacker, self.defender, self.seed, self.status = attacker, "d", seed, status
        self.clone_accuracy, self.served_accuracy, self.clone_metrics = clone, served, {"mine": 3.0}


def test_the_meeting_that_is_worst_for_the_search_counts_by_its_mean_over_seeds(tiny):
    rows = [Row("a", 0, 0.2, 0.9), Row("a", 1, 0.4, 0.7), Row("b", 0, 0.5, 1), Row("b", 1, 0.6, 1)]
    at_least = {"served_accuracy": 0.85}

    def worth(**aim):
        return worth_of(rows, searched(tiny, {**aim, "at_least": at_least}).sweep.search)

    defence, attack = worth(minimise="clone_accuracy"), worth(maximise="clone_accuracy")
    assert (defence.value, attack.value) == (pytest.approx(0.55), pytest.approx(0.3))
    assert defence.shortfall == {"served_accuracy": pytest.approx(0.05)}
    assert not defence.suffices
    rows[0].clone_accuracy = None
    assert worth(minimise="clone_accuracy") is None
    rows[0] = Row("a", 0, 0.2, 0.9, status="error")
    assert worth(minimise="clone_accuracy") is None


def test_the_best_point_is_the_first_of_those_that_suffice(tiny):
    found = [Found({"k": n}, Worth(value, {"s": short})) for n, value, short in
             [(0, 0.1, 0.2), (1, 0.5, 0.0), (2, 0.5, -1), (3, 0.7, -1)]]  # fmt: skip
    found.append(Found({"k": 4}, None))
    low = best_of(found, searched(tiny, {"minimise": "clone_accuracy"}).sweep.search)
    high = best_of(found, searched(tiny, {"maximise": "clone_accuracy"}).sweep.search)
    assert (low.values, low.points, low.below) == ({"k": 1}, 4, 1)
    assert high.values == {"k": 3}
    assert best_of(found[:1], searched(tiny).sweep.search) is None
