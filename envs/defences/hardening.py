"""Lets a defence harden a victim, and checks what it says of itself afterwards."""

from numbers import Real

from envs.defences.base import Defence
from envs.defences.harden_kit import HardenKit
from envs.errors import DefenceError
from envs.victim.victim import Victim

LARGEST_DISTANCE = 2.0
"""Between two posteriors, in L1."""


def hardened_by(defence: Defence, victim: Victim, kit: HardenKit, *, name: str) -> Victim:
    """Return the victim that a defence hardened.

    Args:
        defence: hardens it.
        victim: its own to change.
        kit: what it is lent.
        name: of the defence, for messages.

    Raises:
        DefenceError: it returns no victim, or promises what no defence can keep.
    """
    found: object = defence.harden(victim, kit)
    if not isinstance(found, Victim):
        raise DefenceError(
            f"{name}: expected harden to return a Victim, got {type(found).__name__}"
        )
    require_promises(defence, name=name)
    return found


def overhead_of(defence: Defence, *, name: str) -> int:
    """Return the multiply-accumulates that a query costs beyond the victim's own.

    Raises:
        DefenceError: it is no whole number of at least 0.
    """
    macs: object = defence.overhead_macs
    if type(macs) is not int or macs < 0:
        raise DefenceError(
            f"{name}.overhead_macs is {macs!r}; expected a whole number of at least 0"
        )
    return macs


def require_promises(defence: Defence, *, name: str) -> None:
    """Check the compute that a defence costs, and the distance that it promises.

    Raises:
        DefenceError: one of them is no such number.
    """
    overhead_of(defence, name=name)
    epsilon: object = defence.epsilon
    if not isinstance(epsilon, Real) or not 0 <= float(epsilon) <= LARGEST_DISTANCE:
        raise DefenceError(f"{name}.epsilon is {epsilon!r}; expected a number from 0 to 2")
