"""Whole games: played, written down, repeated, interrupted and killed."""

import time
from dataclasses import asdict

import torch
from sqlalchemy import create_engine, text

from agents.base import Attacker
from arena.analysis.learning import track_of
from arena.log.episode_filter import EpisodeFilter
from arena.log.metric import UNTRAINED
from arena.log.store import Log
from arena.runner.match import play
from arena.runner.progress import Watcher
from tests.started import Started

TIMES = {"wall_seconds", "started", "finished", "attack_seconds_mean", "benign_seconds_mean"}
OWN = {"id", "run_id", "pid", "process_started", "heartbeat", "harden_seconds", "content_digest"}


def play_in(log_path, scenario, **options):
    with Log.open(log_path) as log:
        return play(scenario, log=log, **options)


def outcome(row):
    return {key: value for key, value in asdict(row).items() if key not in TIMES | OWN}


def test_a_game_is_played_measured_and_written_down(tmp_path, scenario):
    (row,) = play_in(tmp_path / "a.db", scenario()).episodes
    assert row.status == "success"
    assert row.queries_used == row.attack_answered == 1000
    assert row.benign_answered == 333
    assert 0 < row.clone_accuracy <= 1
    assert 0 < row.clone_fidelity <= 1
    assert row.served_accuracy == row.victim_accuracy
    assert row.served_agreement == 1
    assert row.distortion_mean == 0
    assert row.attack_compute_share == row.benign_compute_share == 1
    assert row.attack_seconds_mean > 0
    with Log.open(tmp_path / "a.db") as log:
        checkpoints = log.checkpoints(row.id)
        rounds = log.rounds(row.id)
    assert [point.index for point in checkpoints] == [0, 1, 2, 3]
    assert checkpoints[-1].queries_used == 1000
    # measured on other images than the final score
    assert abs(checkpoints[-1].clone_accuracy - row.clone_accuracy) < 0.1
    assert sum(sum(map(sum, bucket.attack_exits)) for bucket in rounds) == 1000
    assert sum(sum(map(sum, bucket.benign_exits)) for bucket in rounds) == 333
    assert rounds[-1].queries_used == 1000
    assert rounds[-1].answer_digest == row.answer_digest


def test_the_same_scenario_and_seed_give_identical_rows_but_for_times(tmp_path, scenario):
    rows, details = [], []
    for name in ("a.db", "b.db"):
        (row,) = play_in(tmp_path / name, scenario()).episodes
        rows.append(outcome(row))
        with Log.open(tmp_path / name) as log:
            rounds = [asdict(bucket) for bucket in log.rounds(row.id)]
            points = [asdict(point) for point in log.checkpoints(row.id)]
        for part in rounds + points:
            for key in ("attack_seconds", "benign_seconds", "wall_seconds"):
                part.pop(key, None)
        details.append((rounds, points))
    assert rows[0] == rows[1]
    assert details[0] == details[1]


def test_another_seed_gives_another_episode(tmp_path, scenario):
    result = play_in(tmp_path / "a.db", scenario(seeds="[0, 1]"))
    first, second = result.episodes
    assert first.query_digest != second.query_digest


def test_more_checkpoints_measure_more_and_change_nothing(tmp_path, scenario):
    (few,) = play_in(tmp_path / "a.db", scenario(checkpoints=1)).episodes
    (many,) = play_in(tmp_path / "b.db", scenario(checkpoints=20)).episodes
    assert (few.answer_digest, few.clone_accuracy) == (many.answer_digest, many.clone_accuracy)


def test_what_was_played_is_skipped_and_played_again_when_asked(tmp_path, scenario):
    first = play_in(tmp_path / "a.db", scenario())
    second = play_in(tmp_path / "a.db", scenario())
    assert (first.skipped, second.skipped) == (0, 1)
    assert second.episodes[0].id == first.episodes[0].id
    third = play_in(tmp_path / "a.db", scenario(), fresh=True)
    assert third.episodes[0].id != first.episodes[0].id


def test_a_description_does_not_make_another_episode_but_a_budget_does(tmp_path, scenario):
    play_in(tmp_path / "a.db", scenario())
    assert play_in(tmp_path / "a.db", scenario(description="'other words'")).skipped == 1
    assert play_in(tmp_path / "a.db", scenario(**{"threat.budget": 500})).skipped == 0


class Faulty(Attacker):
    def attack(self, oracle, kit):
        oracle.query(torch.rand(10, *oracle.threat.image_shape, generator=kit.generator))
        raise ZeroDivisionError("a bug of the author's")


class GoesNaN(Attacker):
    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        shape = (oracle.remaining, *oracle.threat.image_shape)
        oracle.query(torch.rand(shape, generator=kit.generator))
        with torch.no_grad():
            for weights in self.clone.parameters():
                weights.fill_(float("nan"))


class Greedy(Attacker):
    """Asks for ever."""

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        while True:
            oracle.query(torch.rand(64, *oracle.threat.image_shape, generator=kit.generator))


class Interrupted(Attacker):
    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        for _ in range(5):
            oracle.query(torch.rand(100, *oracle.threat.image_shape, generator=kit.generator))
        raise KeyboardInterrupt


def test_a_bug_in_a_player_ends_its_episode_alone_and_loses_nothing(tmp_path, with_attacker):
    both = with_attacker("Faulty", seeds="[0, 1]")
    rows = play_in(tmp_path / "a.db", both).episodes
    assert [row.status for row in rows] == ["error", "error"]
    assert rows[0].error == "ZeroDivisionError: a bug of the author's"
    assert rows[0].queries_used == 10
    with Log.open(tmp_path / "a.db") as log:
        (event,) = [event for event in log.events(rows[0].id) if event.kind == "error"]
    assert "Traceback" in event.data["traceback"]


def test_a_clone_of_nans_is_an_error_with_its_reason(tmp_path, with_attacker):
    (row,) = play_in(tmp_path / "a.db", with_attacker("GoesNaN")).episodes
    assert row.status == "error"
    assert "NaN" in row.error
    assert row.queries_used == 1000
    assert row.clone_accuracy is None


def test_running_out_of_budget_is_a_normal_end_also_off_the_batch(tmp_path, with_attacker):
    (row,) = play_in(tmp_path / "a.db", with_attacker("Greedy")).episodes
    assert row.status == "success"
    assert row.queries_used == 960  # 15 batches of 64; 40 are left and 64 were asked


def test_an_interrupt_closes_the_episode_as_cancelled_and_keeps_what_was_measured(
    tmp_path, with_attacker
):
    result = play_in(tmp_path / "a.db", with_attacker("Interrupted", seeds="[0, 1, 2]"))
    assert result.interrupted
    (row,) = result.episodes
    assert (row.status, row.queries_used) == ("cancelled", 500)
    with Log.open(tmp_path / "a.db") as log:
        assert len(log.checkpoints(row.id)) >= 2
        assert len(log.episodes(EpisodeFilter())) == 1


def test_the_next_run_says_that_it_starts_an_interrupted_episode_afresh(
    tmp_path, with_attacker, watcher
):
    wanted = with_attacker("Interrupted")
    play_in(tmp_path / "a.db", wanted)
    play_in(tmp_path / "a.db", wanted, watcher=watcher)
    assert any("cancelled" in line and "afresh" in line for line in watcher.lines)


def test_a_player_that_is_not_granted_what_it_needs_is_turned_away(tmp_path, scenario):
    hard = scenario({"attackers": [{"use": "dfme"}], "threat": {"labels": "hard"}})
    (row,) = play_in(tmp_path / "a.db", hard).episodes
    assert row.status == "error"
    assert "soft-labels" in row.error
    assert not row.queries_used


def test_a_killed_run_leaves_a_readable_log_and_opening_it_tells_that_the_process_died(
    tmp_path, scenario
):
    scenario()
    log_path = tmp_path / "killed.db"
    budget = "threat.budget=500000"
    with Started("run", tmp_path / "tiny.toml", "--set", budget, "--log", log_path, "--quiet"):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not _rounds(log_path):
            time.sleep(0.2)
    with Log.open(log_path, read_only=True) as log:
        (row,) = log.episodes(EpisodeFilter())
        assert row.status == "started"
        assert log.rounds(row.id)
    with Log.open(log_path) as log:
        (row,) = log.episodes(EpisodeFilter())
        assert row.status == "error"
        assert "died" in row.error


def _rounds(path):
    if not path.exists():
        return 0
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as connection:
            return connection.execute(text("select count(*) from round")).scalar()
    except Exception:
        return 0
    finally:
        engine.dispose()


class Standings(Watcher):
    def __init__(self):
        self.seen = []

    def progress(self, title, progress):
        self.seen.append(progress)


class Waiting(Attacker):
    """Asks with its first clone as it was built, and changes it in the last quarter."""

    def attack(self, oracle, kit):
        self.clone = kit.new_clone().to(kit.device)
        shape = (100, *oracle.threat.image_shape)
        while oracle.remaining:
            oracle.query(torch.rand(shape, generator=kit.generator))
            if oracle.remaining <= 250:
                with torch.no_grad():
                    next(self.clone.parameters()).add_(1.0)


def test_a_checkpoint_tells_of_an_untrained_clone(tmp_path, with_attacker):
    watcher = Standings()
    scenario = with_attacker("Waiting")
    (row,) = play_in(tmp_path / "a.db", scenario, watcher=watcher).episodes
    with Log.open(tmp_path / "a.db") as log:
        points = log.checkpoints(row.id)
    assert [point.metrics.get(UNTRAINED) for point in points] == [1.0, 1.0, 1.0, None]
    assert all(point.clone_accuracy is not None for point in points)
    assert watcher.seen[0].clone_accuracy is None
    assert track_of(points).at_end
