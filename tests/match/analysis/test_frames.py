"""Rows of the scoreboard and tidy frames, from a made-up log with known numbers."""

import builtins
import math

import pytest

from arena.analysis import frames as analysis
from arena.analysis.metrics import MEASURES
from arena.analysis.pooled import over_attackers
from arena.analysis.scoreboard import best, compare, scoreboard
from arena.log.episode_filter import EpisodeFilter
from envs.errors import ArenaError, UnknownName


def test_a_row_has_the_hand_computed_mean_and_interval(made_up):
    for seed, clone in enumerate([0.4, 0.5, 0.6]):
        made_up.play(seed=seed, clone=clone)
    (row,) = scoreboard(made_up.log.episodes())
    score = row.scores["clone_accuracy"]
    assert score.mean == pytest.approx(0.5)
    # standard deviation 0.1, t(0.975, 2) = 4.3027; 0.5 of a hundred images: 0.25 / 104
    reach = math.hypot(4.3027 * 0.1 / math.sqrt(3), 1.95996 * math.sqrt(0.25 / 104))
    assert score.low == pytest.approx(0.5 - reach, abs=1e-5)
    assert score.high == pytest.approx(0.5 + reach, abs=1e-5)
    assert row.images == 100
    assert (row.n, row.seeds) == (3, (0, 1, 2))


def test_one_seed_gives_a_mean_without_interval(made_up):
    made_up.play(clone=0.4)
    (row,) = scoreboard(made_up.log.episodes())
    assert row.scores["clone_accuracy"].mean == 0.4
    assert row.scores["clone_accuracy"].low is None


def test_meetings_are_kept_apart_and_come_in_the_order_of_play(made_up):
    for attacker, defender in [("b", "y"), ("a", "y"), ("b", "x")]:
        made_up.play(attacker, defender)
    rows = scoreboard(made_up.log.episodes(EpisodeFilter(newest_first=True)))
    assert [row.title for row in rows] == ["b / y", "a / y", "b / x"]


def test_rows_stand_as_given_and_the_later_play_of_a_seed_counts_all_the_same(made_up):
    for defender, clone in (("undefended", 0.5), ("dnf", 0.4), ("undefended", 0.6)):
        made_up.play(defender=defender, clone=clone)
    backwards = made_up.log.episodes(EpisodeFilter(newest_first=True))
    rows = scoreboard(backwards[1:] + backwards[:1], as_given=True)
    assert [row.defender for row in rows] == ["dnf", "undefended"]
    assert rows[1].scores["clone_accuracy"].mean == 0.6


def test_what_was_cancelled_failed_unfinished_or_imagined_is_in_no_mean(made_up):
    made_up.play(seed=0, clone=0.5)
    for seed, status in enumerate(["cancelled", "error", "started"], start=1):
        made_up.play(seed=seed, clone=0.1, status=status)
    made_up.play(seed=4, clone=0.9, kind="what-if")
    (row,) = scoreboard(made_up.log.episodes())
    assert (row.seeds, row.scores["clone_accuracy"].mean) == ((0,), 0.5)


def test_a_seed_played_twice_counts_once_with_its_newest_play(made_up):
    made_up.play(seed=0, clone=0.2)
    made_up.play(seed=0, clone=0.6)
    (row,) = scoreboard(made_up.log.episodes())
    assert (row.n, row.scores["clone_accuracy"].mean) == (1, 0.6)


def test_other_settings_are_another_game_and_not_another_defender(made_up):
    made_up.play(seed=0, plan={"threat": {"budget": 1000, "labels": "soft"}})
    made_up.play(seed=1, plan={"threat": {"budget": 1000, "labels": "hard"}})
    made_up.play(seed=1, defender="bare", plan={"threat": {"budget": 1000, "labels": "hard"}})
    rows = scoreboard(made_up.log.episodes())
    assert [(row.game.setting, row.versus) for row in rows] == [
        ("threat.labels=soft", "dnf"), ("threat.labels=hard", "dnf"), ("threat.labels=hard", "bare")
    ]  # fmt: skip


def test_players_of_one_name_are_told_apart_by_their_parameters(made_up):
    for rate in (1, 2):
        for defender in ("dnf", "bare"):
            made_up.play(defender=defender, plan={"attacker": {"rate": rate}})
    made_up.play(defender="dnf", plan={"attacker": {"rate": 1}, "defender": {"strength": 0.5}})
    titles = [row.title for row in scoreboard(made_up.log.episodes())]
    assert titles == [
        "dfme (attacker.rate=1) / dnf", "dfme (attacker.rate=1) / bare",
        "dfme (attacker.rate=2) / dnf", "dfme (attacker.rate=2) / bare",
        "dfme (attacker.rate=1) / dnf (defender.strength=0.5)",
    ]  # fmt: skip


def test_an_attacker_s_own_pool_makes_no_other_game_unless_it_changed(made_up):
    def pool(name):
        return {"threat": {"budget": 1000, "pool": {"use": name}}, "contents": {"pool": name}}

    made_up.play("a", plan=pool("x"))
    made_up.play("b", plan=pool("y"))
    assert {row.game.setting for row in scoreboard(made_up.log.episodes())} == {""}
    made_up.play("a", plan=pool("y"))
    settings = {row.game.setting for row in scoreboard(made_up.log.episodes())}
    assert settings == {"threat.pool.use=x", "threat.pool.use=y"}


def test_a_record_or_more_checkpoints_make_no_other_game(made_up):
    for seed, plan in enumerate(({"record": "digests"}, {"record": "queries", "checkpoints": 3})):
        made_up.play(seed=seed, plan=plan)
    (row,) = scoreboard(made_up.log.episodes())
    assert (row.n, row.game.setting) == (2, "")


def test_what_was_not_measured_has_no_score_and_does_not_pull_the_mean(made_up):
    made_up.play(seed=0, clone=0.4)
    made_up.play(seed=1, clone=None, served_accuracy=None)
    (row,) = scoreboard(made_up.log.episodes())
    assert row.n == 2
    assert row.scores["clone_accuracy"].n == 1
    assert row.by_seed("clone_accuracy") == {0: 0.4}
    made_up.play("blind", clone=None)
    blind = scoreboard(made_up.log.episodes())[1]
    assert "clone_accuracy" not in blind.scores
    assert best([row, blind]) == [row]


def test_utility_loss_and_compute_are_derived_as_stated(made_up):
    # (1000 * 400 + 250 * 900) / (1250 * 1000) = 0.5
    made_up.play(victim_accuracy=0.95, served_accuracy=0.93)
    (row,) = scoreboard(made_up.log.episodes())
    assert row.scores["utility_loss"].mean == pytest.approx(0.02)
    assert row.scores["compute_share"].mean == pytest.approx(0.5)
    (alone,) = made_up.log.episodes()
    object.__setattr__(alone, "benign_answered", 0)
    assert MEASURES["compute_share"].read(alone) == pytest.approx(0.4)


def test_an_average_over_attackers_has_one_value_for_each_seed(made_up):
    for attacker, served in [("a", 0.90), ("b", 0.94)]:
        for seed in range(3):
            made_up.play(attacker, seed=seed, served_accuracy=served + seed / 100)
    score = over_attackers(scoreboard(made_up.log.episodes()), "served_accuracy")
    assert score.n == 3  # not 6: attackers of one seed share the victim
    assert score.mean == pytest.approx(0.93)


def test_rows_are_compared_on_the_seeds_they_share(made_up):
    for seed, clone in [(0, 0.5), (1, 0.6), (2, 0.9), (7, 0.1)]:
        made_up.play("strong", seed=seed, clone=clone)
    for seed, clone in [(0, 0.4), (1, 0.4), (2, 0.5), (8, 0.9)]:
        made_up.play("weak", seed=seed, clone=clone)
    strong, weak = scoreboard(made_up.log.episodes())
    found = compare(strong, weak)
    assert found.seeds == (0, 1, 2)
    assert found.difference.mean == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert found.test.p == 0.25


def test_rows_without_a_shared_seed_cannot_be_compared(made_up):
    made_up.play("a", seed=0)
    made_up.play("b", seed=1)
    assert compare(*scoreboard(made_up.log.episodes())) is None


def test_a_row_as_plain_values_is_what_a_listing_prints(made_up):
    made_up.play(clone=0.4)
    plain = scoreboard(made_up.log.episodes())[0].as_dict()
    assert plain["attacker"] == "dfme"
    assert plain["clone_accuracy"] == {"mean": 0.4, "low": None, "high": None, "n": 1}


def test_every_frame_says_whose_rows_they_are(made_up):
    id = made_up.play(
        "dfme",
        "dnf",
        3,
        inferences=[{"attribute": "family", "inferred": "vgg", "truth": "resnet"}],
        events=[("note", "hello", {})],
    )
    for frame in (
        analysis.episodes(made_up.log),
        analysis.checkpoints(made_up.log),
        analysis.rounds(made_up.log),
        analysis.inferences(made_up.log),
        analysis.events(made_up.log),
        analysis.exits(made_up.log),
    ):
        assert list(frame.columns[:6]) == ["episode_id", *analysis.WHOSE]
        assert set(frame.episode_id) == {id}
        assert (frame.attacker[0], frame.defender[0], frame.seed[0]) == ("dfme", "dnf", 3)


def test_frames_hold_what_was_logged(made_up):
    made_up.play(clone=0.5, curve=[(100, 0.5), (200, 1.0)], exits=((60, 40), (2, 8)))
    curve = analysis.checkpoints(made_up.log)
    assert curve.queries_used.tolist() == [100, 200]
    assert curve.clone_accuracy.tolist() == [0.25, 0.5]
    exits = analysis.exits(made_up.log).groupby(["traffic", "exit"]).answered.sum()
    assert exits["attack"].tolist() == [60, 40]
    assert exits["benign"].tolist() == [2, 8]


def test_a_filter_counts_episodes_and_not_their_rows(made_up):
    for seed in range(3):
        made_up.play(seed=seed)
    newest = analysis.checkpoints(made_up.log, EpisodeFilter(limit=1))
    assert newest.seed.tolist() == [2, 2, 2]
    assert set(analysis.rounds(made_up.log, EpisodeFilter(seed=1)).seed) == {1}


def test_frames_of_an_empty_log_have_their_columns_and_types(made_up):
    frame = analysis.episodes(made_up.log)
    assert len(frame) == 0
    assert frame.clone_accuracy.dtype == "float64"
    assert analysis.checkpoints(made_up.log).clone_accuracy.dtype == "float64"
    last = ["traffic", "defence", "exit", "answered"]
    assert list(analysis.exits(made_up.log).columns[-4:]) == last


def test_what_was_not_measured_is_missing_in_a_frame_and_not_zero(made_up):
    made_up.play(clone=None)
    frame = analysis.episodes(made_up.log)
    assert frame.clone_accuracy.isna().all()
    assert frame.clone_accuracy.dtype == "float64"


def test_without_pandas_the_extra_is_named(made_up, monkeypatch):
    real = builtins.__import__

    def without_pandas(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(ArenaError, match=r"fortress-arena\[analysis\]"):
        analysis.episodes(made_up.log)


def test_episodes_are_chosen_once_each_in_the_order_named(made_up):
    first, second = made_up.play(seed=0), made_up.play(seed=1)
    rows = analysis.chosen(made_up.log, [second, first[:11], second])
    assert [row.id for row in rows] == [second, first]
    with pytest.raises(ArenaError, match="at least one episode"):
        analysis.chosen(made_up.log, [])
    with pytest.raises(UnknownName):
        analysis.chosen(made_up.log, ["zzzz"])
