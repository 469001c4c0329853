"""The page of one episode: what came of it, its course along the budget, and all the log says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlencode

from arena.analysis.along_budget import Slice, right_share
from arena.analysis.timeline import TimelineStep, exits_text, steps_of
from arena.log.episode_filter import EpisodeFilter
from arena.log.reader import LogReader
from arena.log.rows import EpisodeRow, EventRow
from arena.recording.excerpts import QUERIES
from arena.report.formatting import count_text, percent, plain
from arena.report.live import Found
from arena.report.tables import episode_facts, event_line, plan_text
from arena.report.view.addresses import filled
from arena.report.view.charts import Chart, charts_of

EVENTS = 500
"""Events that a page lists at most; the log has them all."""

_SIBLINGS = 12


class StepLine(NamedTuple):
    """A bucket as a row of a table."""

    queries: str
    accuracy: str
    attack: str
    benign: str
    right: str
    events: str


@dataclass(frozen=True)
class Course:
    """What an episode did along its budget, as charts and as a table."""

    charts: Sequence[Chart]
    steps: Sequence[StepLine]


def course_of(log: LogReader, row: EpisodeRow, events: Sequence[EventRow]) -> Course:
    """Read the course of an episode, whose events are known."""
    points = log.checkpoints(row.id)
    steps = steps_of(row, log.rounds(row.id), points, events)
    return Course(charts_of(row, steps, points, events), [_step(row, step) for step in steps])


def _step(row: EpisodeRow, step: TimelineStep) -> StepLine:
    benign = Slice((), (), step.benign_answered, step.benign_correct)
    return StepLine(
        queries=count_text(step.used),
        accuracy=percent(step.clone_accuracy) if step.measured else "",
        attack=exits_text(step.attack_exits),
        benign=exits_text(step.benign_exits),
        right=percent(right_share(benign, row)),
        events="; ".join(f"{event.kind}: {event.message}" for event in step.events[:3])
        + (f"; {len(step.events) - 3} more" if len(step.events) > 3 else ""),
    )


def title_of(row: EpisodeRow) -> str:
    """Name an episode for people."""
    return f"{row.attacker} against {row.defender}, seed {row.seed}"


def episode_page(log: LogReader, id: str) -> Found:
    """Give the page of an episode.

    Raises:
        UnknownName, LogError: no episode has the id, or several begin so.
    """
    row = log.episode(id)
    events = log.events(row.id)
    meeting = {"scenario": row.scenario_name, "attacker": row.attacker, "defender": row.defender}
    return filled(
        "episode.html.j2",
        title=title_of(row),
        row=row,
        facts=episode_facts(row),
        course=course_of(log, row, events),
        inferences=[
            (
                one.attribute,
                plain(one.inferred),
                plain(one.truth),
                _VERDICTS[one.correct],
                "" if one.confidence is None else f"{100 * one.confidence:.0f}%",
            )
            for one in log.inferences(row.id)
        ],
        accounts=[
            (str(one.account + 1), str(one.client), count_text(one.queries_used))
            for one in log.accounts(row.id)
        ],
        events=[event_line(event) for event in events[:EVENTS]],
        hidden_events=max(0, len(events) - EVENTS),
        taped=any(file.kind == QUERIES for file in log.artifacts(row.id)),
        plan=plan_text(row),
        meeting=f"/?{urlencode(meeting)}",
        siblings=_siblings(log, row, meeting),
    )


_VERDICTS = {True: "right", False: "wrong", None: "not judged"}


def _siblings(log: LogReader, row: EpisodeRow, meeting: dict[str, str]) -> list[tuple[str, str]]:
    """Name other episodes of the same players, and the address that compares them with this one."""
    which = EpisodeFilter(**meeting, limit=_SIBLINGS + 1)  # type: ignore[arg-type]
    others = [other for other in log.episodes(which, brief=True) if other.id != row.id]
    return [
        (
            f"seed {other.seed}, {other.id}",
            f"/compare?{urlencode([('id', row.id), ('id', other.id)])}",
        )
        for other in others[:_SIBLINGS]
    ]
