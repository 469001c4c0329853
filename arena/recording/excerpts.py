"""Reads a few queries out of a tape, without the rest of it and without torch."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from arena.log import artifacts
from arena.log.reader import LogReader
from arena.log.rows import ArtifactRow
from envs.errors import ArenaError, one_line

QUERIES = "queries"
"""Kind of the artifacts that hold a tape."""

LARGEST = 2**30
"""Bytes that the arrays of one shard may have; our own have about 16 MiB."""

# `Any` in this file: arrays of several dtypes, by their names.


class TapedQuery(NamedTuple):
    """One query and its answer.

    Attributes:
        number: of the query, from 1.
        round: of the episode, from 0.
        account: which of the attacker's accounts asked.
        image: (c, h, w) float32 in [0, 1].
        posteriors: (K,) float32, as the attacker was given them; zeros where it was refused.
        exit: at which the answer left, from 0; None where the tape does not say, or it was refused.
        seconds: the latency of the answer; None likewise, and in a game without a clock.
        undefended: (K,) float32, what the undefended victim says; None where the tape does not say.
    """

    number: int
    round: int
    account: int
    image: NDArray[np.float32]
    posteriors: NDArray[np.float32]
    exit: int | None
    seconds: float | None
    undefended: NDArray[np.float32] | None


class Excerpt(NamedTuple):
    """Some queries of a tape, and how many the whole tape holds."""

    queries: tuple[TapedQuery, ...]
    total: int


def excerpt(log: LogReader, episode_id: str, first: int, count: int) -> Excerpt:
    """Read some queries of an episode that keeps a tape, as far as they are in whole shards.

    Args:
        log: holds the episode.
        episode_id: of it.
        first: number of the first query, from 1.
        count: how many at most.

    Raises:
        ArenaError: a shard that holds some of them is missing, or not what was written.
        LogError: its path leads out of the episode's folder.
    """
    found: list[TapedQuery] = []
    before = rounds = 0
    for row in shards_of(log, episode_id):
        size, played = _whole(row, "queries"), _whole(row, "rounds")
        low, high = max(first - 1, before), min(first - 1 + count, before + size)
        if low < high:
            arrays = _arrays(log, episode_id, row, size)
            found += _queries(arrays, range(low - before, high - before), before, rounds)
        before, rounds = before + size, rounds + played
    return Excerpt(tuple(found), before)


def shards_of(log: LogReader, episode_id: str) -> list[ArtifactRow]:
    """List the shards of an episode's tape, in order.

    Raises:
        ArenaError: the log does not say which place one has.
    """
    rows = [row for row in log.artifacts(episode_id) if row.kind == QUERIES]
    return sorted(rows, key=lambda row: _whole(row, "shard"))


def _whole(row: ArtifactRow, name: str) -> int:
    value = row.meta.get(name)
    if not isinstance(value, int) or value < 0:
        raise ArenaError(f"{row.path}: expected its {name} as a whole number, got {value!r}; "
                         f"see 'arena log check'")  # fmt: skip
    return value


def _arrays(log: LogReader, episode_id: str, row: ArtifactRow, size: int) -> dict[str, Any]:
    """Read the arrays of a shard, and hold them against what the log says of it."""
    path = artifacts.locate(log.where, episode_id, row.path)
    try:
        if artifacts.digest(path) != row.sha256:
            raise ArenaError(f"{row.path} was altered; see 'arena log check'")
        with ZipFile(path) as file:
            if sum(part.file_size for part in file.infolist()) > LARGEST:
                raise ArenaError(f"{row.path}: expected arrays of at most {LARGEST:,} bytes")
        with np.load(path, allow_pickle=False) as shard:
            arrays = dict(shard)
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise ArenaError(f"{row.path} cannot be read: {one_line(error)}") from error
    shapes = {name: array.shape for name, array in arrays.items()}
    sound = (
        {"images", "posteriors", "rounds"} <= shapes.keys()
        and len(shapes["images"]) == 4
        and len(shapes["posteriors"]) == 2
        and all(shapes[name][:1] == (size,) for name in _BY_QUERY if name in shapes)
        and int(arrays["rounds"].sum()) == size
    )
    if not sound:
        raise ArenaError(f"{row.path}: expected images and answers of {size} queries, got {shapes}")
    return arrays


_BY_QUERY = ("images", "posteriors", "exits", "seconds", "undefended")


def _queries(
    arrays: dict[str, Any], places: Sequence[int], before: int, rounds: int
) -> list[TapedQuery]:
    """Take single queries out of the arrays of a shard.

    Args:
        arrays: of the shard.
        places: of the queries in it.
        before: queries on the tape before it.
        rounds: rounds before it.
    """
    ends = arrays["rounds"].cumsum()
    accounts, exits = arrays.get("accounts"), arrays.get("exits")
    seconds, undefended = arrays.get("seconds"), arrays.get("undefended")
    found = []
    for place in places:
        round = int(np.searchsorted(ends, place, side="right"))
        found.append(
            TapedQuery(
                number=before + place + 1,
                round=rounds + round,
                account=0 if accounts is None else int(accounts[round]),
                image=arrays["images"][place],
                posteriors=arrays["posteriors"][place],
                exit=None if exits is None or exits[place] < 0 else int(exits[place]),
                seconds=_seconds(seconds, place),
                undefended=None if undefended is None else undefended[place],
            )
        )
    return found


def _seconds(seconds: NDArray[np.float64] | None, place: int) -> float | None:
    """Return the latency of an answer; None where there is none."""
    if seconds is None or np.isnan(seconds[place]):
        return None
    return float(seconds[place])
