"""Signals end a run as Ctrl-C does: saved, closed, and with the exit code that shells expect."""

import os
import signal
import time

import pytest
import torch

from agents.base import Attacker
from arena.log.checking import check
from arena.log.reader import LogReader
from arena.log.store import Log
from arena.runner import episode as episodes
from arena.runner import stopping as runs
from arena.runner.match import play
from arena.runner.saves.schedule import Saving
from arena.runner.saves.store import SaveStore
from arena.runner.stopping import STOP, Stop, stopping
from arena.runner.workers.interrupts import on_interrupt
from envs.game.service import Service
from tests.started import Started

RARELY = Saving(seconds=3600)


class Stubborn(Attacker):
    """Goes on after a KeyboardInterrupt; a second one has to end it."""

    def attack(self, oracle, kit):
        while True:
            try:
                print("playing", flush=True)
                time.sleep(60)
            except KeyboardInterrupt:
                print("caught", flush=True)


class Finishing(Attacker):
    """Catches the KeyboardInterrupt and ends as if nothing had happened."""

    def attack(self, oracle, kit):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt:
            return


class Pretending(Attacker):
    """Raises what a signal would, without one."""

    def attack(self, oracle, kit):
        oracle.query(torch.rand(10, *oracle.threat.image_shape, generator=kit.generator))
        raise KeyboardInterrupt


@pytest.fixture
def signalled(monkeypatch):
    """Let a signal come to this process in the round that passes so many queries."""
    real, sent = episodes.GameOracle, []

    def at(queries, number):
        class Signalling(real):
            __slots__ = ()

            def query(self, images):
                if not sent and self.threat.budget - self.remaining >= queries:
                    sent.append(number)
                    os.kill(os.getpid(), number)
                return super().query(images)

        monkeypatch.setattr(episodes, "GameOracle", Signalling)

    return at


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_at_the_next_safe_point_and_the_resumed_episode_is_equal(
    tmp_path, scenario, signalled, number
):
    wanted = scenario()
    with Log.open(tmp_path / "straight.db") as log:
        (straight,) = play(wanted, log=log, saving=RARELY).episodes
    with Log.open(tmp_path / "stopped.db") as log:
        signalled(500, number)
        with stopping() as stop:
            result = play(wanted, log=log, saving=RARELY)
            assert stop.exit_code == 128 + number
            (row,) = result.episodes
            assert (result.interrupted, result.left, row.status) == (True, 1, "cancelled")
            save = SaveStore(log.where).find(row.id)
            assert save is not None
            assert save.queries_used == row.queries_used >= 500
        (row,) = play(wanted, log=log, saving=RARELY).episodes
    assert row.status == "success"
    for name in ("query_digest", "answer_digest", "clone_accuracy", "clone_fidelity"):
        assert getattr(row, name) == getattr(straight, name)


def test_without_safe_points_a_signal_stops_at_once(tmp_path, scenario, signalled):
    signalled(500, signal.SIGTERM)
    with Log.open(tmp_path / "a.db") as log, stopping():
        (row,) = play(scenario(), log=log, saving=Saving(seconds=0)).episodes
        assert row.status == "cancelled"
        assert SaveStore(log.where).find(row.id) is None


def test_an_attacker_that_catches_the_stop_is_no_success(tmp_path, with_attacker):
    with Log.open(tmp_path / "a.db") as log, stopping():
        result = play(with_attacker("Finishing"), log=log)
        assert [row.status for row in result.episodes] == ["cancelled"]
        assert result.interrupted


@pytest.mark.parametrize("grace", [5.0, 0.0], ids=["at its end", "amid it"])
def test_a_stop_amid_a_round_leaves_rows_that_add_up(tmp_path, scenario, monkeypatch, grace):
    real, attacks = Service.answer, []

    def answer(service, images, **about):
        if "timer" in about and "labels" not in about:  # the benign users' came before
            attacks.append(images)
            if len(attacks) == 5:
                os.kill(os.getpid(), signal.SIGINT)
        return real(service, images, **about)

    monkeypatch.setattr(Service, "answer", answer)
    monkeypatch.setattr(runs, "GRACE", grace)
    if not grace:  # nothing is waited for
        monkeypatch.setattr(Stop, "attack_begins", lambda stop, busy: None)
    with Log.open(tmp_path / "a.db") as log, stopping():
        (row,) = play(scenario(), log=log, saving=Saving(seconds=0)).episodes
        rows = log.rounds(row.id)
        assert row.status == "cancelled"
        assert row.queries_used == sum(one.attack_answered for one in rows) > 0
        assert sum(one.rounds for one in rows) == (5 if grace else 4)
        assert [one for one in check(log) if one.kind == "fault"] == []


@pytest.mark.slow
def test_a_players_own_interrupt_ends_its_episode_alone_in_workers(tmp_path, with_attacker):
    with Log.open(tmp_path / "a.db") as log, stopping():
        result = play(with_attacker("Pretending", seeds="[0, 1]"), log=log, workers=2)
    told = [(row.status, row.error, row.queries_used) for row in result.episodes]
    assert told == [("error", "KeyboardInterrupt: no message", 10)] * 2
    assert not result.interrupted


def test_without_a_handler_of_ours_an_interrupt_is_the_users(tmp_path, with_attacker):
    with Log.open(tmp_path / "a.db") as log:
        result = play(with_attacker("Pretending", seeds="[0, 1]"), log=log)
    assert [row.status for row in result.episodes] == ["cancelled"]
    assert result.interrupted


def started(path, log, *words):
    return Started("run", path, "--log", log, "--no-figure", "--quiet", *words)


def wait_for_rounds(path, *, episodes=1):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists() and len(playing(path)) >= episodes:
            return
        time.sleep(0.2)
    raise AssertionError("nothing was played")


def playing(path):
    try:
        with Log.open(path, create=False, read_only=True) as log:
            assert isinstance(log, LogReader)
            return [row.id for row in log.episodes() if log.rounds(row.id)]
    except Exception:  # being made just now
        return []


@pytest.mark.parametrize(
    ("number", "code", "workers"),
    [
        (signal.SIGTERM, 143, 1),
        pytest.param(signal.SIGHUP, 129, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, 2, marks=pytest.mark.slow),
    ],
)
def test_the_command_ends_by_a_signal_with_a_last_save_and_says_what_is_left(
    tmp_path, tiny_file, number, code, workers
):
    path = tiny_file(seeds=[0, 1, 2], threat={"budget": 500_000})
    log_path = tmp_path / "a.db"
    words = ("--save-every", "3600", "--workers", str(workers))
    with started(path, log_path, *words) as process:
        wait_for_rounds(log_path, episodes=workers)
        os.killpg(process.pid, number)  # terminals, Slurm and systemd reach workers too
        _, errors = process.ended(60)
        assert process.returncode == code, errors
    assert "interrupted with 3 episodes left; the same command goes on" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    with Log.open(log_path, read_only=True) as log:
        rows = log.episodes()
        assert [row.status for row in rows] == ["cancelled"] * workers
        assert all(SaveStore(log.where).find(row.id) is not None for row in rows)


def test_a_second_signal_ends_an_attacker_that_swallows_the_first(tmp_path, tiny_file):
    path = tiny_file(attackers=[{"use": f"{__file__}:Stubborn"}])
    with started(path, tmp_path / "a.db") as process:
        process.wait_for("playing\n", err=True)
        process.signal(signal.SIGINT)
        process.signal(signal.SIGINT)  # of a wrapper: the same one
        process.wait_for("caught\n", err=True)
        time.sleep(1.5)
        assert process.returncode is None
        process.signal(signal.SIGINT)
        _, errors = process.ended(30)
        assert process.returncode == 130
    assert "ended at once" in errors
    with Log.open(tmp_path / "a.db") as log:
        assert [row.status for row in log.episodes()] == ["error"]


def test_what_a_process_plays_after_stopped_workers_is_not_stopped():
    counted = []
    with on_interrupt(lambda: counted.append(1)):
        os.kill(os.getpid(), signal.SIGINT)
    assert (counted, STOP.pending, STOP.raised) == ([1], False, False)
    assert STOP.exit_code == 130
