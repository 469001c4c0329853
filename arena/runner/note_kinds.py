"""Tells which kinds of events a player's note may have: none that is read as somebody else's word.

A log knows an event by its kind alone. An attacker's "alarm" would count as the defender's, and a
note called "carried_state" as what the next game begins with.
"""

from agents.attackers.repeats import REPEATS
from agents.timing_probe.log_record import LATENCIES
from arena.log.player_values import checked_name
from arena.log.processes import DIED
from arena.log.reopening import RESUMED
from arena.runner.carry_over import CARRIED_STATE
from envs.errors import PlayerError

OF_THE_ARENA = frozenset({CARRIED_STATE, DIED, "error", "not-saved", RESUMED})
"""What the arena writes itself and reads again."""

OF_DEFENDERS = frozenset({"alarm"})
OF_ATTACKERS = frozenset({LATENCIES, REPEATS})


def attackers_kind(kind: object) -> str:
    """Return the kind of an attacker's note.

    Raises:
        PlayerError: it is no name, or means something that others say.
    """
    return _own(checked_name(kind, "kit.note: kind"), "kit.note: kind", OF_DEFENDERS)


def defenders_kind(kind: object) -> str:
    """Return the kind of a defender's note; raises as `attackers_kind` does."""
    return _own(checked_name(kind, "notes(): kind"), "notes(): kind", OF_ATTACKERS)


def _own(kind: str, what: str, others: frozenset[str]) -> str:
    if kind in OF_THE_ARENA | others:
        whose = "the other player" if kind in others else "the arena"
        raise PlayerError(f"{what}: '{kind}' is what {whose} says; choose another name")
    return kind
