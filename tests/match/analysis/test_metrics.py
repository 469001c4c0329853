"""A metric is declared once, as a field of `OutcomeRow`; every list of metrics follows from it."""

import subprocess
import sys
from dataclasses import fields

import pytest

from arena.log.outcome import METRICS, OutcomeRow

PROGRAM = """
import importlib.util, io, sys

# the module of the outcome, as it would be with one more field
spec = importlib.util.find_spec("arena.log.outcome")
source = spec.loader.get_source("arena.log.outcome")
place = "    query_digest: str | None = metric("
assert source.count(place) == 1
field = 'metric("recall", "share", heading="recall of the clone", short="recall %")'
module = importlib.util.module_from_spec(spec)
sys.modules["arena.log.outcome"] = module
exec(source.replace(place, f"    clone_recall: float | None = {field}\\n{place}"), module.__dict__)

from arena.analysis import frames
from arena.analysis.contrasts import DEFAULT_MEASURES
from arena.analysis.scoreboard import scoreboard
from arena.cli.render import write_scoreboard
from arena.log import reopening
from arena.log.export import export
from arena.log.outcome import OutcomeRow
from arena.log.rows import EpisodeRecord, RunRecord
from arena.log.store import Log
from arena.replay import verify
from arena.report.tables import headings, score_lines
from rich.console import Console

log = Log.open("sqlite://")
run = log.begin_run(RunRecord(command="x", scenario_name="x"))
record = EpisodeRecord(scenario_name="x", plan_hash="p", plan={}, seed=0, attacker="a",
                       defender="d", victim="v", clone="c", data="digits", budget=9)
writer = log.begin_episode(run, record)
writer.finish("success", OutcomeRow(clone_recall=0.25))

board = scoreboard(log.episodes())
assert board[0].scores["clone_recall"].mean == 0.25
assert headings(board) == [("clone_recall", "recall of the clone")], headings(board)
assert score_lines(board)[0].cells[0].mean.startswith("25"), score_lines(board)
assert frames.episodes(log).clone_recall.tolist() == [0.25]
assert "clone_recall" in DEFAULT_MEASURES
assert "clone_recall" in verify.SCORES
shown, exported = io.StringIO(), io.StringIO()
write_scoreboard(Console(file=shown), board)
assert "recall %" in shown.getvalue() and "25" in shown.getvalue(), shown.getvalue()
export(log, "episodes", "csv", exported)
assert "clone_recall" in exported.getvalue()
with log.engine.begin() as connection:
    view = connection.exec_driver_sql("SELECT clone_recall FROM scoreboard").fetchall()
    assert view == [(0.25,)], view
    connection.exec_driver_sql("UPDATE episode SET status = 'error'")
    process = reopening.Process(host="h", pid=1, started=0.0)
    reopening.reopen(connection, writer.id, mark=dict.fromkeys(reopening._COUNTED, -1),
                     process=process, watch=reopening.Watch())
assert log.episode(writer.id).clone_recall is None
"""


@pytest.mark.slow
def test_a_made_up_metric_reaches_every_list_by_its_declaration_alone():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_field_of_the_outcome_declares_its_metric():
    # those of a scenario are declared there
    assert [field.name for field in fields(OutcomeRow)] == [*METRICS, "clone_metrics"]
    assert all(metric.averaged for metric in METRICS.values() if metric.heading or metric.short)
