"""The Python twin of the listings: a log as tidy pandas frames.

    with Log.open("arena.db", read_only=True) as log:
        curve = analysis.checkpoints(log, EpisodeFilter(attacker="dfme"))
        curve.groupby(["defender", "queries_used"]).clone_accuracy.mean()

Every frame has one row for each thing measured, and the columns `episode_id scenario_name attacker
defender seed status` first. pandas comes with the extra `analysis`; `scoreboard` needs no pandas.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import Table, select

from arena.analysis.learning import LEVELS, learning_of
from arena.analysis.scoreboard import Comparison, ScoreRow, compare, scoreboard
from arena.log.cells import require_sound
from arena.log.database_errors import explained
from arena.log.episode_filter import EpisodeFilter
from arena.log.narrowing import narrow
from arena.log.rows import AccountRow, CheckpointRow, EpisodeRow, EventRow, InferenceRow, RoundRow
from arena.log.settings_filter import require_known
from arena.log.store import Log
from arena.log.tables import ACCOUNT, CHECKPOINT, EPISODE, EVENT, INFERENCE, ROUND
from envs.errors import ArenaError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Comparison",
    "ScoreRow",
    "accounts",
    "checkpoints",
    "chosen",
    "compare",
    "episode_frame",
    "episodes",
    "events",
    "exits",
    "inferences",
    "learning",
    "rounds",
    "scoreboard",
]

WHOSE = ("scenario_name", "attacker", "defender", "seed", "status")
"""What every frame tells of the episode a row belongs to, after its id."""


def chosen(log: Log, ids: Iterable[str]) -> list[EpisodeRow]:
    """Read the named episodes (ids or beginnings of ids), each once, in the order named.

    Raises:
        UnknownName, LogError: an id that no episode, or more than one, has.
        ArenaError: none was named.
    """
    names = list(ids)
    whole = log.exactly(names)
    rows = {row.id: row for row in (whole.get(name) or log.episode(name) for name in names)}
    if not rows:
        raise ArenaError("expected at least one episode, got none; 'arena episodes' lists them")
    return list(rows.values())


def episodes(log: Log, which: EpisodeFilter | None = None) -> "pd.DataFrame":
    """Give one row for each episode, with its outcome; JSON columns hold plain dictionaries."""
    return episode_frame(log.episodes(which))


def episode_frame(rows: Iterable[EpisodeRow]) -> "pd.DataFrame":
    """Give one row for each of the episodes, in their order."""
    pandas = _pandas()
    names = [field.name for field in fields(EpisodeRow)]
    first = ["id", *WHOSE]
    frame = pandas.DataFrame(
        ([getattr(row, name) for name in names] for row in rows), columns=names
    )
    frame = _typed(frame, EpisodeRow)[first + [name for name in names if name not in first]]
    return frame.rename(columns={"id": "episode_id"})


def rounds(log: Log, which: EpisodeFilter | None = None) -> "pd.DataFrame":
    """Give one row for each bucket of rounds; `exits` has its histograms in long form."""
    return _joined(log, which, kind=RoundRow, table=ROUND, order="bucket")


def checkpoints(log: Log, which: EpisodeFilter | None = None) -> "pd.DataFrame":
    """Give one row for each measurement along the budget."""
    return _joined(log, which, kind=CheckpointRow, table=CHECKPOINT, order="index")


def inferences(log: Log, which: EpisodeFilter | None = None) -> "pd.DataFrame":
    """Give one row for each thing an attacker said about the victim, beside the truth."""
    return _joined(log, which, kind=InferenceRow, table=INFERENCE, order="id")


def events(log: Log, which: EpisodeFilter | None = None) -> "pd.DataFrame":
    """Give one row for each thing that happened in an episode."""
    return _joined(log, which, kind=EventRow, table=EVENT, order="id")


def accounts(log: Log, which: EpisodeFilter | None = None) -> "pd.DataFrame":
    """Give one row for each account that the attacker asked from; see docs/accounts.md."""
    return _joined(log, which, kind=AccountRow, table=ACCOUNT, order="account")


def exits(log: Log, which: EpisodeFilter | None = None) -> "pd.DataFrame":
    """Give one row for each bucket, kind of traffic, deployed defence and exit.

    Returns:
        columns of every frame, then `bucket queries_used traffic defence exit answered`; `traffic`
        is "attack" or "benign", `defence` and `exit` count from 0.
    """
    pandas = _pandas()
    columns = ["episode_id", *WHOSE, "bucket", "queries_used"]
    rows = [
        [*(getattr(bucket, name) for name in columns), traffic, defence, exit_index, answered]
        for bucket in rounds(log, which).itertuples()
        for traffic in ("attack", "benign")
        for defence, counts in enumerate(getattr(bucket, f"{traffic}_exits") or ())
        for exit_index, answered in enumerate(counts)
    ]
    return pandas.DataFrame(rows, columns=[*columns, "traffic", "defence", "exit", "answered"])


def learning(
    log: Log, which: EpisodeFilter | None = None, accuracies: Sequence[float] = LEVELS
) -> "pd.DataFrame":
    """Give one row for each successful play and accuracy: after how many queries it was reached.

    Returns:
        columns of every frame, then `budget trained_at_end area above_chance accuracy
        queries_used`; `above_chance` and `queries_used` are those of the first checkpoint that
        shows it, and missing where none does: it took more than the budget, if it ever comes.
        `area` is the mean accuracy over the budget. See `arena.analysis.learning`.
    """
    pandas = _pandas()
    board = scoreboard(log.episodes(which))
    played = [one.id for row in board for one in row.episodes.values()]
    points = log.of_episodes(CheckpointRow, played)
    rows = [
        (*(getattr(one.episode, name) for name in ("id", *WHOSE, "budget")),
         one.track.at_end, one.area, one.above_chance, accuracy, one.track.reached(accuracy))
        for meeting in learning_of(board, points, accuracies)
        for one in meeting.seeds
        for accuracy in accuracies
    ]  # fmt: skip
    columns = ["episode_id", *WHOSE, "budget", "trained_at_end", "area", "above_chance",
               "accuracy", "queries_used"]  # fmt: skip
    whole = {"above_chance": "Int64", "queries_used": "Int64", "area": "float64"}
    return pandas.DataFrame(rows, columns=columns).astype(whole)


def _joined(
    log: Log, which: EpisodeFilter | None, *, kind: type[object], table: Table, order: str
) -> "pd.DataFrame":
    """Join a table to the episodes that a filter lets through, in one query."""
    pandas = _pandas()
    # the dataclass protocol is not a type that can be named
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    whose = [EPISODE.c[name] for name in WHOSE]
    # the limit of a filter counts episodes, not the rows joined to them
    within = narrow(select(EPISODE.c.id, EPISODE.c.started, *whose), which or EpisodeFilter())
    owner = within.subquery()
    query = (
        select(
            table.c.episode_id,
            *(owner.c[name] for name in WHOSE),
            *(table.c[name] for name in names),
        )
        .join(owner, owner.c.id == table.c.episode_id)
        .order_by(owner.c.started, owner.c.id, table.c[order])
    )
    with explained(log.where), log.engine.connect() as connection:
        rows: Sequence[Any] = connection.execute(query).all()  # Any: columns of seven types
        if not rows:
            require_known(connection, which)
        require_sound({column.name: column.type for column in query.selected_columns}, rows)
    frame = pandas.DataFrame(rows, columns=["episode_id", *WHOSE, *names])
    return _typed(frame, kind)


def _typed(frame: "pd.DataFrame", kind: type[object]) -> "pd.DataFrame":
    """Give columns that may be empty the type they would have if they were not."""
    types = {float: "float64", int: "Int64", bool: "boolean"}
    optional = {
        field.name: types[alternatives[0]]
        for field in fields(kind)  # type: ignore[arg-type]
        if (alternatives := get_args(field.type))[1:] == (type(None),) and alternatives[0] in types
    }
    return frame.astype(optional)


def _pandas() -> Any:  # Any: pandas brings no types
    try:
        import pandas
    except ImportError as error:
        raise ArenaError(
            "frames need pandas, which is not installed; pip install 'fortress-arena[analysis]'"
        ) from error
    return pandas
