"""Turns the data of an episode into the rows of the report's tables, as text."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from arena.analysis.effects import FROM_CACHE
from arena.analysis.episode_data import EpisodeData
from arena.analysis.inferring import verdicts_on
from arena.analysis.metrics import measure_of, measures_of
from arena.analysis.scoreboard import ScoreRow, best, by_defender
from arena.analysis.trained import NOT_YET, trained_points
from arena.log.outcome import JsonMap
from arena.log.rows import CheckpointRow, EpisodeRow, EventRow, InferenceRow, RunRow
from arena.report.formatting import (
    UNKNOWN,
    Cell,
    cell,
    count_text,
    listed,
    number,
    plain,
    without_machine_paths,
)

COLUMNS = 10
"""Measures that a scoreboard has room for."""

CHECKPOINTS = 60
EVENTS = 50
"""Rows of an episode's own tables at most; the log has them all."""


class ScoreLine(NamedTuple):
    """One row of the scoreboard; `best` marks the attack that copied its defender best."""

    row: ScoreRow
    best: bool
    cells: list[Cell]


class InferenceLine(NamedTuple):
    """What one attacker said about one attribute, over the seeds."""

    meeting: str
    attribute: str
    inferred: str
    truth: str
    correct: str
    confidence: str


@dataclass(frozen=True)
class EpisodeDetails:
    """Everything about one episode that the report unfolds on request.

    Attributes:
        facts: pairs of a name and a value.
        checkpoints, events: as many as are shown.
        hidden_checkpoints, hidden_events: how many are not.
        plan: its settings as JSON.
    """

    episode: EpisodeRow
    accuracy: str
    facts: list[tuple[str, str]]
    checkpoints: list[tuple[str, str, str]]
    hidden_checkpoints: int
    events: list[tuple[str, str]]
    hidden_events: int
    plan: str


@dataclass(frozen=True)
class Origin:
    """Runs that played the same scenario text with the same versions."""

    commands: list[str]
    when: str
    facts: list[tuple[str, str]]
    text: str


def headings(board: Sequence[ScoreRow]) -> list[tuple[str, str]]:
    """Choose the measures that have a heading, and some row a number for.

    Of more than a page has room for, those that are the same in every row have no column.
    """
    same = dict(shared_scores(board))
    return [(name, heading) for name, heading in _measured(board) if heading not in same]


def shared_scores(board: Sequence[ScoreRow]) -> list[tuple[str, str]]:
    """Tell what has no column because it is the same in every row: headings and numbers."""
    columns = _measured(board)
    if len(columns) <= COLUMNS or len(board) < 2:
        return []
    found = []
    for name, heading in columns:
        cells = {cell(row.scores.get(name), measure_of(name), seeds=row.n) for row in board}
        if len(cells) == 1:
            found.append((heading, cells.pop().mean))
    return found


def _measured(board: Sequence[ScoreRow]) -> list[tuple[str, str]]:
    played = [one for row in board for one in row.episodes.values()]
    return [
        (name, measure.metric.heading)
        for name, measure in measures_of(played).items()
        if measure.metric.heading and any(name in row.scores for row in board)
    ]


def score_lines(board: Sequence[ScoreRow]) -> list[ScoreLine]:
    """Write the scoreboard, defender by defender, the best attack first."""
    columns = headings(board)
    lines = []
    for rows in by_defender(board).values():
        ranked = best(rows)
        for row in ranked + [row for row in rows if row not in ranked]:
            cells = [cell(row.scores.get(name), measure_of(name), seeds=row.n)
                     for name, _ in columns]  # fmt: skip
            lines.append(ScoreLine(row, bool(ranked) and row is ranked[0], cells))
    return lines


def inference_lines(episode_data: EpisodeData) -> list[InferenceLine]:
    """Put what attackers inferred beside the truth, over the seeds of each meeting."""
    lines: list[InferenceLine] = []
    for row in episode_data.board:
        said = [
            inference
            for seed in row.seeds
            for inference in episode_data.inferences[row.episodes[seed].id]
        ]
        order = {name: index for index, name in enumerate(dict.fromkeys(i.attribute for i in said))}
        said.sort(key=lambda inference: order[inference.attribute])
        silent: list[InferenceLine] = []
        for attribute, group in groupby(said, key=lambda inference: inference.attribute):
            of_seeds = list(group)
            line = _inference_line(row, attribute, of_seeds)
            spoke = any(inference.inferred is not None for inference in of_seeds)
            (lines if spoke else silent).append(line)
        if silent:
            lines.append(_in_one(silent))
    return lines


def _in_one(silent: Sequence[InferenceLine]) -> InferenceLine:
    """Put what an attacker left unsaid into one line."""
    if len(silent) == 1:
        return silent[0]
    truths = "; ".join(f"{line.attribute} {line.truth}" for line in silent if line.truth != UNKNOWN)
    return silent[0]._replace(
        attribute=listed([line.attribute for line in silent]), truth=truths or UNKNOWN
    )


def _inference_line(row: ScoreRow, attribute: str, said: list[InferenceRow]) -> InferenceLine:
    sure = [inference.confidence for inference in said if inference.confidence is not None]
    return InferenceLine(
        meeting=row.title,
        attribute=attribute.replace("_", " "),
        inferred=_tallied([plain(inference.inferred) for inference in said]),
        truth=_tallied([plain(inference.truth) for inference in said]),
        correct=_verdict(said),
        confidence=f"{100 * sum(sure) / len(sure):.0f}%" if sure else "",
    )


def _verdict(said: Sequence[InferenceRow]) -> str:
    """Say in how many seeds it was right, of all in which there was something to find out."""
    counts = verdicts_on(said)
    if counts is None:
        return "not judged"
    unknown = f" ({counts.unknown} unknown)" if counts.unknown else ""
    return f"{counts.right} of {counts.judged}{unknown}"


def _tallied(values: Sequence[str]) -> str:
    """Write each value once; with how often, where they differ."""
    counts = Counter(values)
    if len(counts) == 1:
        return values[0]
    return "; ".join(f"{value} ({count} of {len(values)})" for value, count in counts.most_common())


def episode_details(episode_data: EpisodeData, episode: EpisodeRow) -> EpisodeDetails:
    """Gather what the report unfolds for one episode."""
    checkpoints = episode_data.checkpoints[episode.id]
    events = episode_data.events[episode.id]
    shown, trained = _thinned(checkpoints), trained_points(checkpoints)
    score = episode.clone_accuracy
    return EpisodeDetails(
        episode=episode,
        accuracy="" if score is None else number(score, "share"),
        facts=episode_facts(episode),
        checkpoints=[_checkpoint(row, trained=row in trained) for row in shown],
        hidden_checkpoints=len(checkpoints) - len(shown),
        events=[event_line(row) for row in events[:EVENTS]],
        hidden_events=max(0, len(events) - EVENTS),
        plan=plan_text(episode),
    )


def plan_text(episode: EpisodeRow) -> str:
    """Write an episode's settings as JSON."""
    plan = json.dumps(episode.plan, indent=1, sort_keys=True, ensure_ascii=False, default=str)
    return without_machine_paths(plan)


def episode_facts(episode: EpisodeRow) -> list[tuple[str, str]]:
    """List what the log says of an episode, as names and values for people."""
    facts: list[tuple[str, str]] = [("status", episode.status)]
    if episode.error:
        facts.append(("error", without_machine_paths(episode.error)))
    if episode.queries_used is not None:
        facts.append(
            ("queries", f"{count_text(episode.queries_used)} of {count_text(episode.budget)}")
        )
    for measure in measures_of([episode]).values():
        value = measure.read(episode)
        if value is not None:
            facts.append((measure.label, number(value, measure.unit)))
    if episode.harden_seconds is not None:
        seconds = episode.harden_seconds
        trained = seconds >= FROM_CACHE
        facts.append(("hardening", number(seconds, "seconds") if trained else "from the cache"))
    facts += [
        ("victim, clone, data", f"{episode.victim}, {episode.clone}, {episode.data}"),
        ("device", episode.device or "unknown"),
        ("commit", episode.git_commit or "unknown"),
        ("versions", _versions(episode.versions)),
        ("started", f"{episode.started:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    return facts


def _versions(versions: JsonMap) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items()) or "unknown"


def _thinned(rows: Sequence[CheckpointRow]) -> list[CheckpointRow]:
    """Keep evenly spread rows, the first and the last among them."""
    if len(rows) <= CHECKPOINTS:
        return list(rows)
    steps = (len(rows) - 1) / (CHECKPOINTS - 1)
    return [rows[round(index * steps)] for index in range(CHECKPOINTS)]


def _checkpoint(row: CheckpointRow, *, trained: bool) -> tuple[str, str, str]:
    if not trained and row.clone_accuracy is not None:
        return count_text(row.queries_used), NOT_YET, ""
    scores = (row.clone_accuracy, row.clone_fidelity)
    accuracy, fidelity = ("" if score is None else number(score, "share") for score in scores)
    return count_text(row.queries_used), accuracy, fidelity


def event_line(row: EventRow) -> tuple[str, str]:
    """Say what happened and when, and the message."""
    at = "" if row.queries_used is None else f" at {count_text(row.queries_used)} queries"
    return f"{row.kind}{at}", without_machine_paths(row.message)


def origins(runs: Sequence[RunRow]) -> list[Origin]:
    """Say where the episodes come from; runs of one text and one set of versions are one entry."""
    groups: dict[tuple[str, ...], list[RunRow]] = {}
    for run in runs:
        commit = (run.git_commit or "unknown") + (" with changes" if run.git_dirty else "")
        key = (run.scenario_text, commit, _versions(run.versions), run.device or "unknown")
        groups.setdefault(key, []).append(run)
    found = []
    for (text, commit, versions, device), same in groups.items():
        first, last = same[0].created, same[-1].created
        when = f"{first:%Y-%m-%d %H:%M} UTC"
        if last != first:
            when += f" to {last:%Y-%m-%d %H:%M} UTC, {len(same)} runs"
        commands = dict.fromkeys(without_machine_paths(run.command) for run in same)
        facts = [
            ("Python", ", ".join(dict.fromkeys(run.python or "unknown" for run in same))),
            ("versions", versions),
            ("commit", commit),
            ("device", device),
        ]
        found.append(Origin(list(commands), when, facts, without_machine_paths(text)))
    return found
