"""Writes the state of an episode into a file and reads it back.

The state of built-in players is written as tensors and plain JSON (`plain_state`), and no code is
read from such a file. Where a plug-in plays, whose classes are known to itself alone, it is a
pickle (`plugin_pickles`), which is read only where this user wrote it.
"""

from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import torch

from agents.base import Kit
from arena.runner.saves import plugin_pickles
from arena.runner.saves.plain_state import describe, restore
from envs.errors import SaveError, one_line
from envs.oracle import Oracle

# `Any` in this file: whatever a player holds.

Write = Callable[[IO[bytes]], None]


class Snapshot(NamedTuple):
    """A state that is ready to be written.

    Attributes:
        pickled: whether it becomes a pickle.
        write: writes it into a file that is open for writing. It raises SaveError where something
            cannot be written, and OSError where there is no room.
    """

    pickled: bool
    write: Write


def lent(oracle: Oracle, kit: Kit) -> dict[str, object]:
    """Return what an attacker is lent, by the names that a save has for it."""
    return {
        "oracle": oracle,
        "kit": kit,
        "generator": kit.generator,
        "new_clone": kit.new_clone,
        "on_report": kit.on_report,
        "on_note": kit.on_note,
        "on_safe_point": kit.on_safe_point,
        "pool": kit.surrogate_pool,
    }


def snapshot(state: object, live: Mapping[str, object]) -> Snapshot:
    """Prepare a state for writing.

    Args:
        state: containers, tensors and players, `live` objects among them.
        live: objects that are known by name and are not written.
    """
    try:
        text, tensors = describe(state, live)
    except Exception:  # a plug-in's own code raises what it likes
        return Snapshot(True, _careful(lambda file: plugin_pickles.write(state, file, live)))
    content = {"description": text, "tensors": tensors}
    return Snapshot(False, _careful(lambda file: torch.save(content, file)))


def read(file: IO[bytes], live: Mapping[str, object], *, pickled: bool) -> Any:
    """Read a state back, on the devices where it was.

    Args:
        file: open for reading.
        live: the objects of now, by the names of then.
        pickled: as it was written. A pickle runs what it says.

    Raises:
        SaveError: it cannot be read: other code, a name that is not there, a damaged file.
    """
    try:
        if pickled:
            return plugin_pickles.read(file, live)
        content = torch.load(file, weights_only=True)
        return restore(content["description"], content["tensors"], live)
    except SaveError:
        raise
    except Exception as error:  # whatever constructors of other code raise
        raise SaveError(one_line(error)[:200]) from error


def _careful(write: Write) -> Write:
    """Name what kept a state from being written: the disk, or something in it."""

    def careful(file: IO[bytes]) -> None:
        try:
            write(file)
        except Exception as error:  # a player's own code raises what it likes
            refusal = _refusal_of_disk(error)
            if refusal is not None:
                raise refusal from None
            raise SaveError(one_line(error)) from error

    return careful


def _refusal_of_disk(error: BaseException) -> OSError | None:
    """Find the refusal of the disk behind an error: torch raises its own while it closes a file."""
    at: BaseException | None = error
    while at is not None and not isinstance(at, OSError):
        at = at.__context__
    return at
