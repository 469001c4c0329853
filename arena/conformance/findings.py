"""What the suite finds: one finding per claim."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from arena.runner.stopping import STOP
from envs.errors import one_line


@dataclass(frozen=True, slots=True)
class Claim:
    """Whether a player keeps one claim.

    Attributes:
        name: the claim in a word or two, stable: what `except_for` takes.
        passed: whether it holds.
        detail: what was seen, in one line.
        warning: it holds, and something about it looks like a slip of the author's.
    """

    name: str
    passed: bool
    detail: str
    warning: bool = False


def claim(name: str, faults: Iterable[str], otherwise: str) -> Claim:
    """Sum up a claim: it holds if nothing speaks against it.

    Args:
        name: the claim.
        faults: what speaks against it; the first one is shown.
        otherwise: what to say if nothing does.
    """
    first = next(iter(faults), None)
    return Claim(name, first is None, otherwise if first is None else first)


def attempt(name: str, claim: Callable[[], Claim]) -> Claim:
    """Check a claim; an exception on the way speaks against it."""
    try:
        return claim()
    except BaseException as error:
        if STOP.caused(error):
            raise
        return Claim(name, False, one_line(error))
