"""Tells what is being played at this moment, from the log alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from markupsafe import Markup

from arena.analysis.trained import NOT_YET, trained_points
from arena.log.processes import find_dead
from arena.log.reader import LogReader
from arena.log.rows import CheckpointRow, EpisodeRow
from arena.report.formatting import count_text, counted, duration_text, listed, number
from arena.report.html import environment


class Playing(NamedTuple):
    """An episode that has begun and not ended.

    Attributes:
        title: who plays whom.
        share: of the budget that is spent, 0 to 1.
        progress: the same in words.
        accuracy: of the clone when last measured, or that it is not yet trained; "" before.
        points: the clone's curve for a polyline in a box of 100 by 20; "" with fewer than two.
    """

    title: str
    share: float
    progress: str
    accuracy: str
    points: str


def now_block(log: LogReader, episodes: Sequence[tuple[str, str]]) -> Markup:
    """Write the part of a served page that changes while episodes are played.

    Args:
        log: to look further in.
        episodes: ids and statuses of all that the page is about.
    """
    begun = [id for id, status in episodes if status == "started"]
    with log.engine.connect() as connection:
        dead = {one.id for one in find_dead(connection)} if begun else set()
    playing = [_playing(log, log.episode(id)) for id in begun if id not in dead]
    fates = Counter(status for _, status in episodes if status != "started")
    fates["died"] = len(dead & set(begun))
    said = [f"{count} {_FATES.get(fate, fate)}" for fate, count in sorted(fates.items()) if count]
    now = counted(len(playing), "episode") if playing else "Nothing"
    summary = f"{now} now; {listed(said) or 'none has ended'}."
    return Markup(
        environment().get_template("now.html.j2").render(summary=summary, playing=playing)
    )


_FATES: Mapping[str, str] = {
    "success": "ended well",
    "error": "ended in an error",
    "cancelled": "cancelled",
    "died": "left behind by a process that is gone",
}


def _playing(log: LogReader, row: EpisodeRow) -> Playing:
    rounds, checkpoints = log.rounds(row.id), log.checkpoints(row.id)
    asked = [bucket.queries_used for bucket in rounds] + [c.queries_used for c in checkpoints]
    used, budget = max(asked, default=0), row.budget
    seconds = (datetime.now(UTC) - row.started).total_seconds()
    measured = any(one.clone_accuracy is not None for one in checkpoints)
    trained = trained_points(checkpoints)
    scores = [one.clone_accuracy for one in trained if one.clone_accuracy is not None]
    return Playing(
        title=f"{row.attacker} / {row.defender}, seed {row.seed}",
        share=round(min(1.0, used / budget), 4),
        progress=f"{count_text(used)} of {count_text(budget)} queries after "
        f"{duration_text(round(seconds))}"
        if used
        else f"being prepared for {duration_text(round(seconds))}",
        accuracy=number(scores[-1], "share") if scores else NOT_YET if measured else "",
        points=_points(trained, budget),
    )


def _points(checkpoints: Sequence[CheckpointRow], budget: int) -> str:
    found = [
        f"{100 * row.queries_used / budget:.1f},{20 - 19 * row.clone_accuracy:.1f}"
        for row in checkpoints
        if row.clone_accuracy is not None
    ]
    return " ".join(found) if len(found) > 1 else ""
