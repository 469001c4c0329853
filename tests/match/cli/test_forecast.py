"""What a run says before and while it plays: forecasts, phases, time left, warnings, failures."""

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from arena.cli import progress as watchers
from arena.cli.app import app
from arena.cli.common import is_live
from arena.cli.dry_run import _seconds_of
from arena.cli.progress import LineWatcher, Pace
from arena.cli.render import write_table
from arena.cli.run import _warn_of_shared_clock
from arena.runner.progress import Progress
from arena.runner.scheduler import play_in_workers
from arena.runner.workers.pool import Message, Played


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_dry_run_plays_nothing_and_tells_what_the_log_has(tiny_file, tmp_path):
    path, log = tiny_file(), tmp_path / "a.db"
    before = call("run", path, "--seeds", "0-1", "--dry-run", "--log", log)
    assert before.exit_code == 0, before.output
    assert "2 episodes to play, 0 skipped; no estimate" in before.stdout
    assert not log.exists()
    assert call("run", path, "--seeds", "0", "--no-figure", "--quiet", "--log", log).exit_code == 0
    told = call("run", path, "--seeds", "0-1", "--dry-run", "--json", "--log", log)
    (scenario,) = json.loads(told.stdout)["scenarios"]
    (meeting,) = scenario["meetings"]
    assert (meeting["play"], meeting["skip"]) == (1, 1)
    assert scenario["seconds"] == meeting["seconds"] > 0
    anew = call("run", path, "--seeds", "0-1", "--dry-run", "--fresh", "-j", "2", "--log", log)
    assert "2 episodes to play, 0 skipped; about" in anew.stdout
    assert "with 2 workers" in anew.stdout
    one, nine = (
        json.loads(
            call("run", path, "--dry-run", "--fresh", "--json", "-j", n, "--log", log).stdout
        )
        for n in (1, 9)
    )
    assert one == nine  # a single episode keeps one worker busy
    refused = call("run", path, "--dry-run", "-j", 0, "--log", log)
    assert refused.exit_code == 2
    assert "expected a number of workers" in refused.stderr


def test_a_forecast_of_a_sweep_counts_what_is_left_of_it(tiny_file, tmp_path):
    log = tmp_path / "a.db"
    quick = ["--no-figure", "--quiet", "--log", log]

    def seconds(*words):
        told = call("run", tiny_file(**changes), "--dry-run", "--json", "--log", log, *words)
        (scenario,) = json.loads(told.stdout)["scenarios"]
        return scenario["seconds"]

    changes = {"sweep": {"over": {"threat.budget": [100, 1_000_000]}}}
    assert call("run", tiny_file(threat={"budget": 100}), *quick).exit_code == 0
    small, large = (seconds("--set", f"sweep.over={{threat.budget=[{n}]}}", "--fresh")
                    for n in (100, 1_000_000))  # fmt: skip
    assert large == pytest.approx(10_000 * small)
    assert seconds("--fresh") == pytest.approx(small + large)
    assert seconds() == pytest.approx(large)  # the log has the small one


def row(budget, seconds):
    return SimpleNamespace(
        attacker="noise", defender="none", clone="mlp-small", victim="conv-small",
        budget=budget, wall_seconds=seconds,
    )  # fmt: skip


def test_a_forecast_does_not_scale_the_start_of_a_tiny_episode_up():
    named = SimpleNamespace
    plan = named(attacker=named(name="noise"), defender=named(name="none"),
                 clone=named(use="mlp-small"), victim=named(use="conv-small"),
                 threat=named(budget=1000))  # fmt: skip
    assert _seconds_of(plan, [row(1, 2.0), row(1000, 4.0), row(1000, 6.0)]) == pytest.approx(5.0)
    assert _seconds_of(plan, [row(1, 2.0), row(1999, 6.0)]) == pytest.approx(4.0)
    assert _seconds_of(plan, []) is None


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(watchers.time, "monotonic", lambda: now.seconds)
    return now


def test_the_time_left_for_a_run_follows_from_the_time_between_ends(clock):
    pace = Pace()
    assert pace.text == ""
    pace.skip()
    pace.begin(9)
    assert pace.text == "1 of 9"
    clock.seconds += 20
    pace.begin(9)
    pace.end()
    pace.end()
    # two in twenty seconds, six more to come
    assert pace.text == "3 of 9, about 1 min 0 s left"


@pytest.mark.parametrize(("width", "speed"), [(80, False), (120, True)])
def test_a_terminal_shows_titles_phases_and_times_whole(monkeypatch, width, speed):
    shown = io.StringIO()
    console = Console(file=shown, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(watchers, "err", lambda: console)
    title = "random-generator vs undefended, seed 0"
    with watchers._bars() as bars:
        watcher = watchers.LiveWatcher(bars)
        watcher.begin(title, 0, 4)
        watcher.progress(title, Progress(500, 1000, 0.1, 0.5))
        bars.refresh()
        frame = shown.getvalue()
        watcher.phase(title, "training clone")
    assert title in frame
    assert "attacking, clone 10.0 %" in frame
    assert "500 ms left" in frame
    assert ("1,000 queries/s" in frame) is speed
    assert "0 of 4" in frame
    assert "training clone" in shown.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown.getvalue()


def test_a_pipe_is_told_the_phase_and_the_time_left(clock, capsys):
    watcher = LineWatcher(lambda episode_id: 0.5)
    watcher.begin("a vs b", 0, 2)
    for phase in ("training victim", "hardening"):
        clock.seconds += 6
        watcher.phase("a vs b", phase)
    clock.seconds += 6
    watcher.progress("a vs b", Progress(500, 1000, None, 10.0))
    clock.seconds += 6
    watcher.progress("a vs b", Progress(1000, 1000, None, 20.0))
    clock.seconds += 6
    watcher.phase("a vs b", "scoring")
    watcher.end("a vs b", "0123", "success", None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:3] == ["  a vs b: training victim", "  a vs b: hardening"]
    assert lines[3].endswith("clone not yet trained, 50 queries/s, 10 s left")
    assert lines[4].endswith("training clone, clone not yet trained")
    assert lines[5] == "  a vs b: scoring"
    assert lines[6].endswith("; 1 of 2, about 30 s left")


def test_episodes_are_sorted_by_a_column_those_without_a_value_last(made_up):
    for seed, clone in enumerate([0.5, None, 0.9]):
        made_up.play("dfme" if seed else "noise", seed=seed, clone=clone)

    def seeds(*words):
        told = call("episodes", "--json", "--log", made_up.log.where, *words)
        return [row["seed"] for row in json.loads(told.stdout)]

    assert seeds("--sort", "clone_accuracy") == [2, 0, 1]
    assert seeds("--sort", "clone_accuracy", "--reverse") == [0, 2, 1]
    assert seeds("--sort", "clone_accuracy", "--limit", "1") == [2]
    assert seeds("--sort", "attacker")[2] == 0
    wrong = call("episodes", "--log", made_up.log.where, "--sort", "plan")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
    assert "no column to sort by named 'plan'" in wrong.stderr


def test_a_terminal_that_cannot_draw_gets_plain_lines():
    def shown(term):
        console = Console(
            force_terminal=True, width=60, file=io.StringIO(), _environ={"TERM": term}
        )
        write_table(console, ("a", "b"), [("1", "2")])
        return is_live(console), console.file.getvalue()

    assert shown("dumb") == (False, "a  b\n1  2\n")
    live, drawn = shown("xterm")
    assert live
    assert "─" in drawn


def test_no_color_leaves_colours_out(made_up, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(force_terminal=True, file=io.StringIO())
    console.print("[red]x[/red]")
    assert "31m" not in console.file.getvalue()


@pytest.mark.parametrize(("latency", "workers", "warned"), [
    ("wall", "2", True), ("wall", "ray", True), ("wall", "1", False), ("virtual", "2", False),
])  # fmt: skip
def test_real_time_on_a_shared_machine_is_warned_of(latency, workers, warned, capsys):
    scenario = SimpleNamespace(name="timed", threat=SimpleNamespace(latency=latency))
    _warn_of_shared_clock([scenario], workers)
    assert ("--workers 1" in capsys.readouterr().err) == warned


class Failing:
    """A pool of one worker whose episodes all end in an error."""

    size = 1

    def __init__(self):
        self.assigned, self._messages = [], []

    def assign(self, worker, task):
        self.assigned.append(task.number)
        title = task.plan.title
        self._messages += [
            Message(0, "end", (title, f"id{task.number}", "error", "broken")),
            Message(0, "played", (Played(task.number, f"id{task.number}", False),)),
        ]

    def receive(self, seconds):
        messages, self._messages = self._messages, []
        return messages

    def stop(self):
        pass

    def close(self):
        pass


@pytest.mark.parametrize(("fail_fast", "assigned"), [(True, [0]), (False, [0, 1, 2])])
def test_workers_begin_no_episode_after_a_failure_if_they_fail_fast(fail_fast, assigned):
    tasks = [SimpleNamespace(number=n, plan=SimpleNamespace(title=f"t{n}")) for n in range(3)]
    pool = Failing()
    play_in_workers(tasks, pool, watchers.Watcher(), fail_fast=fail_fast)
    assert pool.assigned == assigned


def test_a_run_that_fails_fast_stops_and_says_what_is_left(tiny_file, tmp_path):
    player = tmp_path / "broken.py"
    player.write_text(
        "from agents.base import Attacker\n"
        "class Broken(Attacker):\n"
        "    def attack(self, oracle, kit):\n"
        "        raise RuntimeError('broken')\n"
    )
    path = tiny_file(attackers=[{"use": f"{player}:Broken"}])
    words = ("run", path, "--seeds", "0-2", "--no-figure", "--quiet")
    stopped = call(*words, "--fail-fast", "--log", tmp_path / "a.db")
    assert stopped.exit_code == 1
    assert "stopped after a failure with 3 episodes left" in stopped.stderr
    assert stopped.stdout.count("RuntimeError") == 1
    assert call(*words, "--log", tmp_path / "b.db").stdout.count("RuntimeError") == 3


@pytest.mark.parametrize(("latency", "workers", "warned"), [
    ("wall", "2", True), ("wall", "1", False), ("virtual", "2", False),
])  # fmt: skip
def test_real_time_on_a_shared_machine_is_warned_of_before_it_is_played(
    tiny_file, tmp_path, latency, workers, warned
):
    path = tiny_file(threat={"latency": latency})
    told = call("run", path, "--dry-run", "--workers", workers, "--log", tmp_path / "a.db")
    assert told.exit_code == 0, told.output
    assert ("measures real time" in told.stderr) is warned


def test_points_of_a_sweep_that_are_played_at_once_are_told_apart(tiny_file, tmp_path):
    sweep = {"over": {"threat.budget": [500, 700]}}
    words = ["--no-figure", "--log", tmp_path / "a.db"]
    told = call("run", tiny_file(sweep=sweep), "-j", "2", *words)
    assert told.exit_code == 0, told.output
    for budget in (500, 700):
        title = f"noise vs undefended, seed 0, threat.budget={budget}"
        (line,) = [one for one in told.stderr.splitlines() if f"{title}: success" in one]
        assert "µs" not in line
    again = call("run", tiny_file(sweep=sweep), *words)
    assert "seed 0, threat.budget=700: skipped" in again.stderr
