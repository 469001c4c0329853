"""Replays: an episode played again is the same, or the first place that differs is named."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from arena.analysis.timeline import timeline_steps
from arena.cli.app import app
from arena.log.store import Log
from arena.replay.verify import verify
from arena.runner.match import play
from arena.runner.stopping import STOP
from arena.scenario import Scenario
from envs.errors import ArenaError
from tests.match.conftest import reseal


@pytest.fixture(scope="module")
def original(tmp_path_factory, tiny):
    """A log with one tiny episode in it, and its id."""
    path = tmp_path_factory.mktemp("original") / "arena.db"
    with Log.open(path) as log:
        (row,) = play(Scenario.parse(tiny()), log=log).episodes
    assert row.status == "success"
    return path, row.id


@pytest.fixture
def altered(original, tmp_path):
    """Give a copy of that log in which a statement was run, and the episode's digest follows."""

    def alter(*statements, digested=True, **values):
        path = tmp_path / "altered.db"
        shutil.copy(original[0], path)
        engine = create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            for statement in statements:
                assert connection.execute(text(statement), values).rowcount > 0
            if digested:
                reseal(connection, original[1])
        engine.dispose()
        with Log.open(path) as log:
            return verify(log, original[1])

    return alter


def test_a_tiny_episode_played_again_is_the_same(original):
    with Log.open(original[0], read_only=True) as log:
        verdict = verify(log, original[1][:6])
    assert verdict.same
    assert (verdict.buckets, verdict.checkpoints, verdict.causes) == (16, 4, ())


def test_the_replay_writes_nothing_into_the_log(original):
    with Log.open(original[0], read_only=True) as log:
        before = (log.episodes(), log.runs(), log.events())
        verify(log, original[1])
        assert (log.episodes(), log.runs(), log.events()) == before


def test_an_altered_digest_is_found_in_its_bucket_and_called_altered(original, altered):
    with Log.open(original[0], read_only=True) as log:
        second = log.rounds(original[1])[1]
    verdict = altered(
        "UPDATE round SET answer_digest = '00ff' WHERE bucket = :bucket", bucket=second.bucket
    )
    (difference,) = verdict.differences
    assert difference.what == "answer_digest"
    assert (difference.logged, difference.replayed) == ("00ff", second.answer_digest)
    assert f"bucket {second.bucket} (round {second.first_round}, queries 65 to 128)" in str(
        difference
    )
    assert "its row in the log was altered" in verdict.causes[0]


def test_altered_counts_of_exits_are_found_with_every_digest_the_same(altered):
    verdict = altered("UPDATE round SET benign_correct = benign_correct + 1 WHERE bucket = 0")
    assert [one.what for one in verdict.differences] == ["benign_correct"]
    assert verdict.differences[0].where.startswith("bucket 0")
    assert "counts which differ were altered" in verdict.causes[0]


def test_an_altered_checkpoint_is_found(altered):
    verdict = altered('UPDATE checkpoint SET clone_accuracy = 0.99 WHERE "index" = 2')
    assert [one.where for one in verdict.differences] == ["checkpoint 2, after 768 queries"]


@pytest.mark.parametrize(
    ("statement", "where", "what"),
    [
        ("UPDATE episode SET num_classes = 100", "what was set up", "num_classes"),
        ("UPDATE episode SET exit_names = '[[\"other\"]]'", "what was set up", "exit_names"),
        ("UPDATE episode SET clone_normalisation = 'victim'", "what was set up",
         "clone_normalisation"),
        ("INSERT INTO event (episode_id, time, kind, message, queries_used) SELECT id, started, "
         "'alarm', 'client 1', 5 FROM episode", "event 1 of the defender, alarm", "message"),
    ],
)  # fmt: skip
def test_what_was_set_up_and_what_the_defender_noticed_is_compared(altered, statement, where, what):
    (found,) = altered(statement).differences
    assert (found.where, found.what) == (where, what)


def test_an_altered_plan_is_told_from_its_hash(altered):
    verdict = altered("UPDATE episode SET plan = json_set(plan, '$.seed', 1)")
    assert verdict.differences[0].where.startswith("bucket 0 (round 0,")
    assert "not the one its hash" in verdict.causes[0]


def test_other_versions_and_another_commit_are_named_as_causes(altered):
    verdict = altered(
        "UPDATE episode SET versions = json_set(versions, '$.torch', '1.0'), git_commit = 'abc', "
        "device = 'cuda:7 NVIDIA X', clone_accuracy = 0"
    )
    causes = "\n".join(verdict.causes)
    assert "and was 1.0" in causes
    assert "and was at abc" in causes
    assert "and was cuda:7 NVIDIA X" in causes
    assert "played on the CPU instead" in "\n".join(verdict.notes)


def test_other_versions_alone_are_no_difference(altered):
    assert altered("UPDATE episode SET git_commit = 'abc'").same


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE episode SET git_commit = 'abc'",
        "UPDATE episode SET harden_seconds = 1",
        "UPDATE event SET message = 'x'",
    ],
)
def test_a_log_that_was_changed_is_not_the_same_though_the_replay_is(altered, statement):
    add = (
        "INSERT INTO event (episode_id, time, kind, message) "
        "SELECT id, started, 'n', 'm' FROM episode"
    )
    verdict = altered(add, statement, digested=False)
    assert verdict.differences == ()
    assert not verdict.same
    assert "was changed, added or removed after its end" in verdict.changed[-1]


def test_a_changed_plan_hash_is_found_even_with_a_new_digest(altered):
    verdict = altered("UPDATE episode SET plan_hash = 'x'")
    assert not verdict.same
    assert verdict.changed[-1].endswith("its plan_hash is not that of its plan")


def test_where_nothing_is_known_to_differ_the_verdict_says_so(altered, monkeypatch):
    monkeypatch.setattr("arena.replay.causes.git_state", lambda: (None, False))
    verdict = altered(
        "UPDATE run SET git_dirty = 0", "UPDATE episode SET git_commit = NULL, clone_accuracy = 0"
    )
    assert [one.what for one in verdict.differences] == ["clone_accuracy"]
    (cause,) = verdict.causes
    assert cause.endswith("nondeterminism, or an altered log")


def test_a_cancelled_episode_is_compared_as_far_as_it_went(altered):
    verdict = altered(
        "UPDATE episode SET status = 'cancelled', queries_used = 512, clone_accuracy = NULL"
    )
    assert verdict.same
    assert "cut short" in verdict.notes[0]


LATE = """
import os, time, torch
from agents.base import Attacker

class Late(Attacker):
    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        for _ in range(int(os.environ["ASKS"])):
            oracle.query(torch.rand(50, *oracle.threat.image_shape, generator=kit.generator))
        time.sleep(60 if oracle.remaining else 0)
"""


@pytest.fixture
def replay_late(tmp_path, tiny, monkeypatch):
    """Play until the time is up, after so many requests of 50; then again, with other times."""
    (tmp_path / "late.py").write_text(LATE)

    def run(asks, again, *statements, **changes):
        late = [{"use": f"{tmp_path}/late.py:Late"}]
        monkeypatch.setenv("ASKS", str(asks))
        threat = {"budget": 1000}
        scenario = Scenario.parse(tiny(attackers=late, time_limit=1, threat=threat, **changes))
        with Log.open(tmp_path / "a.db") as log:
            (row,) = play(scenario, log=log).episodes
            assert row.error == "the attack took longer than its 1 s"
            for statement in statements:
                with log.engine.begin() as connection:
                    connection.execute(text(statement))
                    reseal(connection, row.id)
            monkeypatch.setenv("ASKS", str(again))
            return verify(log, row.id, trust_plugins=True)

    return run


@pytest.mark.parametrize(
    ("again", "record"), [(5, "digests"), (5, "queries"), (13, "queries"), (20, "digests")]
)
def test_an_episode_whose_time_was_up_is_compared_as_far_as_both_went(replay_late, again, record):
    verdict = replay_late(9, again, record=record)
    assert verdict.same, verdict.differences
    assert verdict.buckets > 2
    assert "cut short" in verdict.notes[0]


@pytest.mark.parametrize("again", [5, 13])
def test_what_was_altered_before_the_time_was_up_is_found(replay_late, again):
    verdict = replay_late(9, again, "UPDATE round SET query_digest = 'x' WHERE bucket = 0")
    assert [one.what for one in verdict.differences] == ["query_digest"]


def test_what_cannot_be_played_again_is_refused(altered):
    with pytest.raises(ArenaError, match="is a what-if"):
        altered("UPDATE episode SET kind = 'what-if'")
    with pytest.raises(ArenaError, match=r"cannot be played by this version: .*use the version"):
        altered("UPDATE episode SET plan = json_set(plan, '$.novelty', 1)")


def test_measured_latency_is_said_to_be_no_ground_for_sameness(tmp_path, tiny):
    wall = tiny(threat={"budget": 100, "latency": "wall"})
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(Scenario.parse(wall), log=log).episodes
        verdict = verify(log, row.id)
    assert "really measured" in "\n".join(verdict.notes)
    assert verdict.same  # noise does not look at the clock


def test_the_exit_code_is_the_verdict(original):
    words = ["replay", original[1], "--verify", "--quiet"]
    done = CliRunner().invoke(app, [*words, "--log", str(original[0])])
    assert (done.exit_code, done.stdout.splitlines()[1]) == (
        0, "the same: 16 buckets of rounds, 4 checkpoints, 19 scores"
    )  # fmt: skip
    missing = str(original[0].parent / "gone.db")
    assert CliRunner().invoke(app, [*words, "--log", missing]).exit_code == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_a_replay_as_it_stops_a_run(original, monkeypatch, number, code):
    def stopped(*_, **__):
        assert signal.getsignal(number) == STOP.handle  # else it would end the tests
        os.kill(os.getpid(), number)

    monkeypatch.setattr("arena.replay.verify.play_one", stopped)
    words = ["replay", original[1], "--verify", "--quiet", "--log", str(original[0])]
    assert CliRunner().invoke(app, words).exit_code == code


def test_a_difference_is_exit_code_one_and_json_tells_it(original, tmp_path):
    path = tmp_path / "b.db"
    shutil.copy(original[0], path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE round SET query_digest = 'x' WHERE bucket = 0"))
    engine.dispose()
    words = ["replay", original[1], "--verify", "--quiet", "--log", str(path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "differs first in bucket 0 (round 0, queries 1 to 64)" in done.stdout
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert not told["same"]
    assert told["differences"][0]["what"] == "query_digest"


# Re-enacting


def reenact(made_up, id, *words):
    done = CliRunner().invoke(app, ["replay", id, *words, "--log", made_up.log.where])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_timeline_holds_what_the_log_does_in_the_order_of_the_budget(made_up):
    id = made_up.play(
        clone=0.5,
        curve=((250, 0.5), (750, 0.9), (1000, 1.0)),
        exits=((600, 400), (20, 180)),
        events=[("note", "early", {})],
    )
    first, last = timeline_steps(made_up.log, made_up.log.episode(id))
    assert (first.used, last.used, last.budget) == (500, 1000, 1000)
    assert (first.clone_accuracy, last.clone_accuracy) == (0.25, 0.5)
    assert (first.attack_exits, first.benign_exits) == (((300, 200),), ((10, 90),))
    assert [event.message for event in first.events] == ["early"]
    # half way between the checkpoints at 250 queries (0 s) and 750 (1 s)
    assert first.seconds == pytest.approx(0.5)
    assert last.seconds == 2.0


def test_in_a_pipe_a_replay_is_plain_lines_at_once(made_up):
    id = made_up.play(clone=0.5, exits=((600, 400), (20, 180)), events=[("note", "early", {})])
    lines = reenact(made_up, id).splitlines()
    assert lines[0].startswith(f"dfme vs dnf, seed 0: success ({id}")
    assert lines[1].split()[:2] == ["queries", "after"]
    assert lines[2].split()[0] == "500"
    assert "60/40" in lines[2]
    assert "10/90" in lines[2]
    assert lines[2].endswith("note: early")
    assert len(lines) == 5
    assert lines[-1] == "clone 50.0 %, fidelity 50.0 %, benign users served 93.0 %"


def test_speed_is_kept_in_a_pipe_too(made_up, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    id = made_up.play(curve=((500, 0.5), (1000, 1.0)))  # measured after 0 s and 1 s
    fast = reenact(made_up, id, "--speed", "100")
    assert sum(waits) == pytest.approx(0.01)
    waits.clear()
    assert reenact(made_up, id, "--speed", "2") == fast
    assert sum(waits) == pytest.approx(0.5)


def test_an_episode_without_rounds_says_so(made_up):
    id = made_up.play(status="error", error="no such pool", exits=None, curve=())
    told = reenact(made_up, id)
    assert "the log has no rounds of this episode" in told


def test_a_terminal_is_drawn_and_keys_step_pause_and_leave(made_up):
    pty = pytest.importorskip("pty")
    id = made_up.play(clone=0.5, exits=((600, 400), (20, 180)))
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "arena.cli", "replay", id, "--step", "--log", made_up.log.where],
        stdin=child, stdout=child, stderr=child,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
    )  # fmt: skip
    os.close(child)
    text, pressed = b"", 0
    with open(parent, "r+b", buffering=0) as screen, contextlib.suppress(OSError):
        while part := screen.read(65536):  # OSError: the other end was closed
            text += part
            if text.count(b"space: continue") > pressed and pressed < 2:
                assert process.poll() is None  # it waits for a key after each of two steps
                pressed += 1
                screen.write(b"n")
    assert process.wait() == 0, text.decode()
    assert pressed == 2
    told = text.decode()
    assert "50.0 % of 1,000" in told
    assert "100.0 % of 1,000" in told
    assert "exit 2: 40.0 %" in told
