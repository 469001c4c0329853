"""The header of a save: whose it is, and which file of state belongs to it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 2
"""Of the files; raised when older ones can no longer be read."""


@dataclass(frozen=True, slots=True)
class Save:
    """The header of a save.

    Attributes:
        episode: whose.
        plan: hash of the episode's plan.
        queries_used: images asked until then.
        number: of this save in its episode, from 1.
        file: name of the state's file, in the same folder.
        sha256: of the state.
        bytes: of the state.
        mark: the last rows that the log had then, by table.
        pickled: whether the state is a pickle, which is opened only if this user wrote it.
        seal: of all the above, by a key that the user alone has (see `sealing`); "" for a state
            that is no pickle.
        version: of these files.
    """

    episode: str
    plan: str
    queries_used: int
    number: int
    file: str
    sha256: str
    bytes: int
    mark: dict[str, int]
    pickled: bool
    seal: str = ""
    version: int = VERSION

    def __post_init__(self) -> None:
        """Refuse what no save is: a header may be anybody's.

        Raises:
            TypeError: values of other types.
            ValueError: numbers that the log cannot hold.
        """
        texts = (self.episode, self.plan, self.file, self.sha256, self.seal, *self.mark)
        if not all(type(one) is str for one in texts) or type(self.pickled) is not bool:
            raise TypeError("expected texts, and whether the state is a pickle")
        counts = (self.queries_used, self.number, self.bytes, self.version)
        numbers = (*counts, *self.mark.values())
        if not all(type(one) is int for one in numbers):
            raise TypeError("expected whole numbers")
        if min(counts) < 0 or min(numbers) < -1 or max(numbers) >= 2**63:
            raise ValueError("expected counts of 63 bits")


_LARGEST = 2**20
"""Bytes of a header that are read."""


def read_header(path: Path) -> Save | None:
    """Read a header; None where there is none, or what lies there is none of this version."""
    try:
        # a pipe or a device has no end
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        # `Any`: JSON as it is parsed
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        save = Save(**fields)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return save if save.version == VERSION else None
