"""Holds the tapes of two plays against each other: the very round in which they part.

Digests in the log are of buckets of rounds. Where the queries themselves were kept, single rounds
can be compared, and a row of the log that was altered is told from a play that went another way.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from arena.log.reader import LogReader
from arena.log.store import Log
from arena.recording.excerpts import QUERIES
from arena.recording.shards import TapeGone, rounds_on_tape
from envs.errors import ArenaError


class Parting(NamedTuple):
    """Where two tapes part.

    Attributes:
        round: number of the round, from 0.
        first, last: numbers of its queries, from 1.
        what: "account", "queries" or "answers", or "round" where one tape ends before it.
        then, now: accounts, or digests of what is on the two tapes, None where there is nothing.
    """

    round: int
    first: int
    last: int
    what: str
    then: str | None
    now: str | None


class TapesCompared(NamedTuple):
    """What came of it: the same, a parting, or why nothing could be compared.

    Attributes:
        gone: files are missing.
        fault: the files are there and are not what was written.
    """

    same: bool
    parting: Parting | None = None
    gone: str = ""
    fault: str = ""


def has_tape(log: LogReader, id: str) -> bool:
    """Whether an episode kept its queries."""
    return any(row.kind == QUERIES for row in log.artifacts(id))


@contextmanager
def scratch_log(*, taped: bool) -> Iterator[Log]:
    """Open a log that is thrown away: in memory, or with a folder for a tape."""
    if not taped:
        with Log.open("sqlite://") as log:
            yield log
        return
    with (
        tempfile.TemporaryDirectory(prefix="arena-replay-") as folder,
        Log.open(Path(folder) / "replay.db") as log,
    ):
        yield log


def compare_tapes(log: LogReader, id: str, again: LogReader, *, replayed: str) -> TapesCompared:
    """Compare the tapes of an episode and of its replay, round by round.

    A tape that ends early has nothing to say about later rounds where its episode was cut short.
    """
    asked = 0
    try:
        pairs = zip_longest(rounds_on_tape(log, id), rounds_on_tape(again, replayed))
        for number, (then, now) in enumerate(pairs):
            known = then or now
            first, asked = asked + 1, asked + len(known.images)
            if then is None or now is None:
                sides = [None if side is None else _digest(side.images) for side in (then, now)]
                return TapesCompared(False, Parting(number, first, asked, "round", *sides))
            if then.account != now.account:
                return TapesCompared(
                    False,
                    Parting(number, first, asked, "account", str(then.account), str(now.account)),
                )
            for what in ("images", "posteriors"):
                one, other = getattr(then, what), getattr(now, what)
                if one.shape != other.shape or not bool((one == other).all()):
                    name = "queries" if what == "images" else "answers"
                    sides = [_digest(one), _digest(other)]
                    return TapesCompared(False, Parting(number, first, asked, name, *sides))
    except TapeGone as error:
        return TapesCompared(False, gone=str(error))
    except ArenaError as error:
        return TapesCompared(False, fault=str(error))
    return TapesCompared(True)


def _digest(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16]
