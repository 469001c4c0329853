"""Checks a log: the database itself, its references, its accounts and its files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import isclose
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Column, Connection, Dialect, exists, select, type_coerce
from sqlalchemy.types import NULLTYPE

from arena.log import artifacts
from arena.log.cells import meaning, read_cells, require_sound
from arena.log.collector import rare_collections
from arena.log.content import Cells, Contents, contents_of, same_content
from arena.log.database_errors import explained
from arena.log.outcome import JsonMap
from arena.log.pruning import strays
from arena.log.reader import LogReader
from arena.log.tables import ACCOUNT, ARTIFACT, CHECKPOINT, CHILDREN, EPISODE, EVENT, ROUND, RUN
from arena.log.undigested import digested

_SHOWN = 20
"""Damaged rows of one column that are named at most."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about a log.

    Attributes:
        kind: "fault" breaks the log's promise; "note" is only worth knowing.
        what: which check found it.
        message: one line.
    """

    kind: Literal["fault", "note"]
    what: str
    message: str


@rare_collections()
def check(log: LogReader) -> list[Problem]:
    """Examine a log: the database itself, its references, its accounts and its files.

    Raises:
        LogError: it cannot be read at all.
    """
    with explained(log.where), log.engine.connect() as connection:
        findings = [*_sound(connection), *_references(connection)]
        # rows whose episode is not there are read by nothing else
        damaged = list(_values(connection)) if findings else []
        try:
            _read_loose(connection)
            told = list(_episodes(log, connection))
        except (ValueError, TypeError, OverflowError, RecursionError):
            damaged = damaged or list(_values(connection))
            if not damaged:
                raise
    # what cannot be read is not to be added up
    return findings + damaged if damaged else [*findings, *told, *_strays(log)]


def changes(log: LogReader, id: str) -> list[str]:
    """Say what shows that the rows of an episode were changed after its end, a line for each."""
    files = artifacts.folder_of(log.where) is not None
    with explained(log.where), log.engine.connect() as connection:
        ids = [log.episode(id).id]
        (contents,) = contents_of(connection, ids, sound=True)
        return [fault.message for fault in _changes(contents, ids[0], files=files)]


def _sound(connection: Connection) -> Iterator[Problem]:
    """Ask SQLite whether its pages and indexes are sound."""
    if connection.dialect.name != "sqlite":
        return
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if line != "ok":
            yield Problem("fault", "integrity", str(line))


def _references(connection: Connection) -> Iterator[Problem]:
    """Look for rows whose episode or run is not there."""
    parents = [(EPISODE, EPISODE.c.run_id, RUN.c.id)]
    parents += [(kind, kind.c.episode_id, EPISODE.c.id) for kind in CHILDREN]
    for table, key, parent in parents:
        lost = select(key).where(key.is_not(None), ~exists().where(parent == key)).distinct()
        for (name,) in connection.execute(lost):
            yield Problem("fault", "references", f"{table.name} has rows of {parent.table.name} "
                                                 f"{name}, which is not there")  # fmt: skip


def _values(connection: Connection) -> Iterator[Problem]:
    """Look for values that are none of their column's type: SQLite stores whatever it is given."""
    if connection.dialect.name != "sqlite":
        return
    for table in (RUN, EPISODE, *CHILDREN):
        key = table.c.id if "id" in table.c else table.c.episode_id
        for column in table.c:
            cell = type_coerce(column, NULLTYPE)  # as it lies there
            found = connection.execute(select(key, cell).where(cell.is_not(None))).all()
            sound = partial(_are_sound, column, connection.dialect)
            if sound([value for _, value in found]):
                continue
            damaged = (name for name, value in found if not sound([value]))
            for name in islice(damaged, _SHOWN):
                yield Problem("fault", "values", f"{table.name} {name}: its {column.name} is no "
                              f"{meaning(column.name, column.type)}")  # fmt: skip


def _are_sound(column: Column[Any], dialect: Dialect, cells: Sequence[object]) -> bool:
    """Read cells as every other command does; returns whether that works."""
    process = column.type.dialect_impl(dialect).result_processor(dialect, None)
    try:
        read = [[process(cell) if process else cell] for cell in cells]
        require_sound({column.name: column.type}, read)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return False
    return True


def _episodes(log: LogReader, connection: Connection) -> Iterator[Problem]:
    """Hold the rows of each episode against each other, its plan, its digest and its files."""
    column, missing = EPISODE.c, 0
    every = connection.execute(select(column.id).order_by(column.started, column.id)).scalars()
    files, others = artifacts.folder_of(log.where) is not None, digested(connection)
    for contents in contents_of(connection, every, sound=True):
        for id, row in contents.episodes.items():
            yield from _changes(contents, id, files=files)
            yield from _files(log, id, contents.parts[ARTIFACT].get(id, ()))
            without = row["finished"] is not None and row["content_digest"] is None
            missing += without
            if without and others.was_removed(row):
                yield Problem("fault", "contents", f"episode {id}: the digest of its rows was "
                              f"removed; others that were played like it have theirs")  # fmt: skip
    if missing:
        yield Problem("note", "contents", f"{missing} ended episodes have no digest of their rows; "
                      f"programs from before log schema v0003 wrote none")  # fmt: skip


def _read_loose(connection: Connection) -> None:
    """Read the rows that belong to no episode. Raises as `read_cells` does."""
    for query in (select(RUN), select(EVENT).where(EVENT.c.episode_id.is_(None))):
        read_cells(connection, query, sound=True)


def _changes(contents: Contents, id: str, *, files: bool) -> Iterator[Problem]:
    """Find what shows that rows of an episode were changed after its end.

    Args:
        contents: hold the episode.
        id: of the episode.
        files: whether the log keeps files, so that the digest of the rows about them counts.
    """
    row = contents.episodes[id]
    rounds, points = (contents.parts[kind].get(id, ()) for kind in (ROUND, CHECKPOINT))
    yield from _accounts(row, rounds, points)
    if row["status"] == "success" and not _adds_up(
        row, rounds, contents.parts[ACCOUNT].get(id, ())
    ):
        yield Problem("fault", "accounts", f"episode {id}: its queries and accounts are not what "
                      f"its accounts were charged")  # fmt: skip
    yield from _identity(row)
    kept = row["content_digest"] if row["finished"] is not None else None
    if kept is not None and not same_content(kept, contents.digest(id), files=files):
        yield Problem("fault", "contents", f"episode {id}: a row of it was changed, added "
                      f"or removed after its end")  # fmt: skip


def _accounts(row: Cells, rounds: Sequence[Cells], points: Sequence[Cells]) -> Iterator[Problem]:
    """Hold an episode's rounds against each other and against its outcome."""
    id, next_round, asked = row["id"], 0, 0
    for bucket in rounds:
        asked += bucket["attack_answered"] + _refused(row, [bucket])
        extra = bucket["queries_used"] - asked
        # a victim elsewhere charges lost requests too
        follows = extra == 0 or (extra > 0 and bucket["attack_macs"] is None)
        if bucket["first_round"] != next_round or not follows:
            yield Problem("fault", "accounts", f"episode {id}: bucket {bucket['bucket']} does "
                          f"not follow on the one before it")  # fmt: skip
            return
        for exits, answered in (
            (bucket["attack_exits"], bucket["attack_answered"]),
            (bucket["benign_exits"], bucket["benign_answered"]),
        ):
            if exits is not None and sum(map(sum, exits)) != answered:
                yield Problem("fault", "accounts", f"episode {id}: the exits of bucket "
                              f"{bucket['bucket']} are not those of its answers")  # fmt: skip
        next_round += bucket["rounds"]
    used = [point["queries_used"] for point in points]
    if used != sorted(used):
        yield Problem("fault", "accounts", f"episode {id}: its checkpoints go back in budget")
    if row["status"] != "success":
        return
    if rounds and not _follows(row, rounds[-1], asked):
        yield Problem("fault", "accounts", f"episode {id}: its outcome is not what its rounds "
                      f"add up to")  # fmt: skip
    for name in _costs(row, rounds):
        yield Problem("fault", "accounts", f"episode {id}: its {name} is not what its rounds "
                      f"and its other columns give")  # fmt: skip
    if row["finished"] is None:
        yield Problem("fault", "accounts", f"episode {id}: a success without an end")


def _follows(row: Cells, last: Cells, asked: int) -> bool:
    """Tell whether an outcome is what its rounds add up to."""
    charged = row["queries_used"]
    if last["attack_macs"] is None and charged is not None:  # a victim elsewhere
        same = row["answer_digest"] == last["answer_digest"]
        return bool(charged >= last["queries_used"] and same)
    return (charged, row["answer_digest"]) == (asked, last["answer_digest"])


def _refused(row: Cells, rounds: Sequence[Cells]) -> int:
    """Count the images of the attacker's that were refused and charged all the same.

    What a victim elsewhere charges for them is not known here.
    """
    threat = (row["plan"] or {}).get("threat")
    if isinstance(threat, Mapping) and threat.get("refused") == "free":
        return 0
    told = [
        (bucket["countermeasure"] or {}).get("attack_refused", 0)
        for bucket in rounds
        if bucket["attack_macs"] is not None
    ]
    return sum(count for count in told if type(count) is int)


def _adds_up(row: Cells, rounds: Sequence[Cells], accounts: Sequence[Cells]) -> bool:
    """Tell whether an outcome is what its accounts add up to."""
    if row["accounts_used"] is None:
        return not accounts
    asked = sum(account["queries_used"] for account in accounts)
    charged = row["attack_answered"] + _refused(row, rounds)
    # what a victim elsewhere, whose costs are not known, did not answer stays charged
    known = row["full_macs"] is not None
    return len(accounts) == row["accounts_used"] and (asked == charged or not known)


def _costs(row: Cells, rounds: Sequence[Cells]) -> Iterator[str]:
    """Name the columns of an outcome that do not follow from the rounds and from each other."""
    for side in ("attack", "benign"):
        answered, mean, share = (
            row[f"{side}_{name}"] for name in ("answered", "macs_mean", "compute_share")
        )
        counted = sum(one[f"{side}_answered"] for one in rounds)
        if rounds and answered is not None and answered != counted:
            yield f"{side}_answered"
        # each bucket is rounded to whole MACs
        spent = sum(one[f"{side}_macs"] or 0 for one in rounds)
        if rounds and mean is not None and abs(mean * (answered or 0) - spent) > len(rounds) + 1:
            yield f"{side}_macs_mean"
        whole = row["full_macs"]
        if None not in (mean, share, whole) and not isclose(share * whole, mean):
            yield f"{side}_compute_share"


def _identity(row: Cells) -> Iterator[Problem]:
    """Hold the columns that say what was played against the plan, as far as it says that."""
    plan = row["plan"] or {}
    told = {
        "scenario_name": plan.get("scenario"),
        "seed": plan.get("seed"),
        "attacker": _at(plan, "attacker", "name"),
        "attacker_params": _at(plan, "attacker", "params"),
        "defender": _at(plan, "defender", "name"),
        "defender_params": plan.get("defender"),
        "victim": _at(plan, "victim", "use"),
        "clone": _at(plan, "clone", "use"),
        "data": _at(plan, "data", "use"),
        "budget": _at(plan, "threat", "budget"),
    }
    for name, planned in told.items():
        if name == "scenario_name" and row["kind"] != "play":
            continue
        if planned not in (None, "") and row[name] != planned:
            yield Problem("fault", "identity", f"episode {row['id']}: its {name} is "
                          f"{_shown(row[name])}, and {_shown(planned)} in its "
                          f"plan")  # fmt: skip


def _at(plan: JsonMap, table: str, key: str) -> object:
    found = plan.get(table)
    return found.get(key) if isinstance(found, Mapping) else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _files(log: LogReader, id: str, files: Iterable[Cells]) -> Iterator[Problem]:
    """Hold the files of an episode against the rows about them."""
    for artifact in files:
        path = artifacts.inside(log.where, id, artifact["path"])
        if path is None:
            yield Problem("fault", "files", f"episode {id!r}: {artifact['path']!r} does not "
                          f"lie in the episode's folder beside the log")  # fmt: skip
        elif fault := _file_fault(path, artifact):
            yield Problem("fault", "files", f"episode {id}: {artifact['path']} {fault}")


def _strays(log: LogReader) -> Iterator[Problem]:
    if left := strays(log):
        yield Problem("note", "files", f"of no episode (left by a run that was killed): {left[0]}"
                      f"{f' and {len(left) - 1} more' if left[1:] else ''}; "
                      f"'arena log prune --strays' removes what is listed")  # fmt: skip


def _file_fault(path: Path, artifact: Cells) -> str:
    if not path.is_file():
        return "is not there"
    if path.stat().st_size != artifact["bytes"]:
        return f"has {path.stat().st_size} bytes and should have {artifact['bytes']}"
    return (
        "" if artifacts.digest(path) == artifact["sha256"] else "was altered: its SHA-256 differs"
    )
