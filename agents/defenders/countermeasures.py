"""Countermeasures as scenarios write them: tables of `defence` and `strength`."""

from collections.abc import Iterable, Mapping

from envs.errors import PlayerError
from envs.game.rounds import Countermeasure

Step = Mapping[str, float]
"""{ defence = 1, strength = 0.5 }; `defence` is 0 and `strength` 1 where absent."""


def read_step(step: Step, *, where: str, beside: Iterable[str] = ()) -> Countermeasure:
    """Turn a table into a countermeasure.

    Args:
        step: the table.
        where: names it in the message.
        beside: other keys the table may have.

    Raises:
        PlayerError: an unknown key, a defence that is no whole number from 0, or a strength that is
            not in [0, 1].
    """
    known = ("defence", "strength", *beside)
    unknown = sorted(set(step) - set(known))
    if unknown:
        raise PlayerError(f"{where}: unknown key '{unknown[0]}'; expected {', '.join(known)}")
    defence, strength = step.get("defence", 0), step.get("strength", 1.0)
    if defence < 0 or defence != int(defence):
        raise PlayerError(f"{where}: expected the number of a defence, from 0, got {defence}")
    if not 0 <= strength <= 1:
        raise PlayerError(f"{where}: expected a strength from 0 to 1, got {strength}")
    return Countermeasure(int(defence), float(strength))


def check_indices(decisions: Iterable[Countermeasure], deployed_defences: int) -> None:
    """Refuse a countermeasure at a defence that nobody brought.

    Raises:
        PlayerError: with the number of the defence and of those there are.
    """
    last = max(decision.defence for decision in decisions)
    if last >= deployed_defences:
        raise PlayerError(
            f"this defender uses defence {last}, but the scenario brought {deployed_defences} "
            f"(counted from 0); list more defences or name another defence"
        )
