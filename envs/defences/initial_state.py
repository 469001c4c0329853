"""Copies what a defence holds, and sets it back, so that every game begins alike."""

import copy
from collections.abc import Iterable
from typing import Any

from envs.defences.base import Defence
from envs.victim.victim import Victim

# `Any` in this file: whatever a defence holds.


def copied(defence: Defence, victims: Iterable[Victim]) -> Defence:
    """Copy a defence; where a value has no copy (a lock), each value alone, and that one not.

    Args:
        defence: hardened.
        victims: which the defence may hold too; they do not change while they serve, and stay.
    """
    kept = [part for victim in victims for part in (victim, *victim.network.modules())]

    def copy_of(value: Any) -> Any:
        # deepcopy takes what the memo holds for an object instead of copying the object
        return copy.deepcopy(value, {id(part): part for part in kept})

    def copy_if_any(value: Any) -> Any:
        try:
            return copy_of(value)
        except Exception:  # whatever a value's own code raises
            return value

    try:
        made: Defence = copy_of(defence)
    except Exception:
        made = copy.copy(defence)
        vars(made).update({name: copy_if_any(value) for name, value in vars(defence).items()})
    return made


class InitialState:
    """Keeps what a defence holds after hardening.

    Args:
        defence: hardened, and not yet asked.
        victims: as of `copied`.
    """

    def __init__(self, defence: Defence, victims: Iterable[Victim]) -> None:
        self._defence, self._victims = defence, tuple(victims)
        self._then = copied(defence, self._victims)

    def put_back(self) -> None:
        """Give the defence the state of then; what it holds now is let go."""
        held = vars(self._defence)
        held.clear()
        held.update(vars(copied(self._then, self._victims)))
