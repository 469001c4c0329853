"""What a player's class declares: slips that play on without a word are warned of."""

import difflib
import inspect
from collections.abc import Iterator
from functools import partial

from agents.base import Attacker, Defender
from arena.conformance.findings import Claim
from envs.defences.base import Defence

BASES = (Attacker, Defender, Defence)
_CLOSE = 0.8
"""Likeness of a method's name and a hook's, 0 to 1, from which it looks misspelt."""


def class_of(make: object) -> type | None:
    """Return the class that a maker builds, None where it cannot be told."""
    while isinstance(make, partial):
        make = make.func
    return make if isinstance(make, type) else None


def check_declaration(player: type) -> list[Claim]:
    """Warn of misspelt hooks and of parameters without annotation."""
    warnings = (("spelling", _misspelt(player)), ("annotations", _unannotated(player)))
    return [Claim(name, True, detail, warning=True) for name, found in warnings for detail in found]


def _misspelt(player: type) -> Iterator[str]:
    base = next((one for one in BASES if issubclass(player, one)), None)
    if base is None:
        return
    hooks = {name for name, value in vars(base).items() if callable(value) and name[0] != "_"}
    own = {
        name
        for one in player.__mro__[: player.__mro__.index(base)]
        for name, value in vars(one).items()
        if callable(value) and name[0] != "_"
    }
    for name in sorted(own - hooks):
        for hook in difflib.get_close_matches(name, hooks - own, n=1, cutoff=_CLOSE):
            yield f"the arena never calls '{name}'; did you mean the hook '{hook}'?"


def _unannotated(player: type) -> Iterator[str]:
    try:
        parameters = inspect.signature(player).parameters.values()
    except (TypeError, ValueError):
        return
    bare = [one.name for one in parameters if one.annotation is inspect.Parameter.empty]
    if bare:
        yield f"{', '.join(bare)}: annotate each parameter with its type, so that it is checked"
