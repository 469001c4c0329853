"""Countermeasures as scenarios write them: tables of a defence, a strength and further measures."""

from collections.abc import Iterable, Mapping

from envs.errors import PlayerError
from envs.game.rounds import Countermeasure

Step = Mapping[str, float | bool]
"""{ defence = 1, strength = 0.5 }; `defence` is 0 and `strength` 1 where absent. Further keys:
`refuse` and `cut_off` (true or false), `delay` (seconds), `rate` (images a second)."""

_NUMBERS = ("defence", "strength", "delay", "rate")
_FLAGS = ("refuse", "cut_off")


def read_step(step: Step, *, where: str, beside: Iterable[str] = ()) -> Countermeasure:
    """Turn a table into a countermeasure.

    Args:
        step: the table.
        where: names it in the message.
        beside: other keys the table may have.

    Raises:
        PlayerError: an unknown key, a defence that is no whole number from 0, a strength that is
            not in [0, 1], or another value out of range.
    """
    known = ("defence", "strength", *beside, *_FLAGS, "delay", "rate")
    unknown = sorted(set(step) - set(known))
    if unknown:
        raise PlayerError(f"{where}: unknown key '{unknown[0]}'; expected {', '.join(known)}")
    for name in _NUMBERS:
        if type(step.get(name, 0)) is bool:
            raise PlayerError(f"{where}: expected {name} as a number, got {step[name]}")
    for name in _FLAGS:
        if type(step.get(name, False)) is not bool:
            raise PlayerError(f"{where}: expected {name} as true or false, got {step[name]}")
    defence, strength = step.get("defence", 0), step.get("strength", 1.0)
    if defence < 0 or defence != int(defence):
        raise PlayerError(f"{where}: expected the number of a defence, from 0, got {defence}")
    if not 0 <= strength <= 1:
        raise PlayerError(f"{where}: expected a strength from 0 to 1, got {strength}")
    rate = step.get("rate")
    try:
        return Countermeasure(
            int(defence),
            float(strength),
            refuse=bool(step.get("refuse", False)),
            cut_off=bool(step.get("cut_off", False)),
            delay=float(step.get("delay", 0.0)),
            rate=None if rate is None else float(rate),
        )
    except PlayerError as error:
        raise PlayerError(f"{where}: {error}") from None


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
