"""Sets a defence back to how it was hardened, so that every game begins alike."""

import copy
from collections.abc import Iterable
from typing import Any

from envs.defences.base import Defence
from envs.victim.victim import Victim

# `Any` in this file: whatever a defence holds.


class InitialState:
    """Keeps what a defence holds after hardening.

    Args:
        defence: hardened, and not yet asked.
        victims: which the defence may hold too; they do not change while they serve.
    """

    def __init__(self, defence: Defence, victims: Iterable[Victim]) -> None:
        self._defence = defence
        self._shared = [part for victim in victims for part in (victim, *victim.network.modules())]
        self._values = self._copied(vars(defence))

    def put_back(self) -> None:
        """Give the defence the state of then; what it holds now is let go."""
        held = vars(self._defence)
        held.clear()
        held.update(self._copied(self._values))

    def _copied(self, values: dict[str, Any]) -> dict[str, Any]:
        """Copy values together; where one has no copy (a lock), each alone, and that one not."""
        try:
            return copy.deepcopy(values, self._memo())
        except Exception:  # whatever a value's own code raises
            return {name: self._copy(value) for name, value in values.items()}

    def _copy(self, value: Any) -> Any:
        try:
            return copy.deepcopy(value, self._memo())
        except Exception:
            return value

    def _memo(self) -> dict[int, Any]:
        return {id(part): part for part in self._shared}
