"""Checks what is handed to an environment beside its actions: seeds, options and clones."""

import operator
from collections.abc import Mapping

from torch import nn

from envs.errors import PlayerError, QueryError, ScenarioError


def checked_seed(seed: object) -> int | None:
    """Return a seed as a whole number; None for an episode that follows from the last.

    Raises:
        ScenarioError: it is no whole number from 0 to 2**63 - 1.
    """
    if seed is None:
        return None
    try:
        number = operator.index(seed)  # type: ignore[arg-type]  # NumPy's whole numbers too
    except TypeError:
        number = -1
    if isinstance(seed, bool) or not 0 <= number < 2**63:
        # Python refuses to write a number of any length
        got = "a larger one" if number >= 2**63 else ascii(seed)[:40] if number == -1 else "less"
        raise ScenarioError(
            f"expected seed as None or a whole number of at least 0 and below 9.2e18, got {got}"
        )
    return number


def checked_clone(clone: object) -> nn.Module:
    """Return a clone that can be measured.

    Raises:
        PlayerError: it is no module.
    """
    if not isinstance(clone, nn.Module):
        raise PlayerError(f"expected a torch.nn.Module as clone, got {type(clone).__name__}")
    return clone


def clone_of(options: object) -> nn.Module | None:
    """Return the clone that the options of a reset submit; None where they submit none.

    Other options are left to whoever wraps the environment.

    Raises:
        ScenarioError: they are no mapping.
        PlayerError: the clone is none.
    """
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise ScenarioError(
            f"expected options as {{'clone': module}}, got {type(options).__name__}"
        )
    return checked_clone(options["clone"]) if "clone" in options else None


def require_moves(actions: object, players: tuple[str, ...]) -> None:
    """Check that there is a move of every player.

    Raises:
        QueryError: one is missing, or what came is no mapping.
    """
    if not isinstance(actions, Mapping) or not set(players) <= set(actions):
        got = sorted(map(str, actions)) if isinstance(actions, Mapping) else type(actions).__name__
        raise QueryError(f"expected a move of each of {' and '.join(players)}, got {got}")
