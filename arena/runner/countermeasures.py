"""Counts which settings of a defender answered whom, for the log's `round.countermeasure`."""

from collections.abc import Mapping

from envs.game.rounds import AnsweredRequest, Round

SETTINGS = 8
"""Settings of one kind of traffic that a bucket tells apart; the images of others are summed."""

LIFTED = 1e308
"""How a rate that is lifted is written: JSON has no infinity."""

Setting = tuple[int, float, bool, bool, float, float | None]
"""A countermeasure's values, in the order of its fields."""

Counts = dict[Setting, list[int]]
"""By setting: the first round, the images asked, and those that were refused."""


class CountermeasureCounts:
    """Counts, between two calls of `take`, the images that each setting answered or refused.

    What is kept is bounded, whatever a defender does: `SETTINGS` for the attacker, as many for
    benign users.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._sides: dict[str, Counts] = {"attack": {}, "benign": {}}
        self._others = {"attack": 0, "benign": 0}
        self._refused = {"attack": 0, "benign": 0}

    def on_round(self, round: Round) -> None:
        """Count a round's requests."""
        self._add("attack", round.number, round.attack)
        for request in round.benign:
            self._add("benign", round.number, request)

    def _add(self, side: str, number: int, request: AnsweredRequest) -> None:
        made, asked = request.countermeasure, request.images.shape[0]
        refused = 0 if request.refused is None else asked
        self._refused[side] += refused
        setting = (made.defence, made.strength, made.refuse, made.cut_off, made.delay, made.rate)
        counts = self._sides[side]
        entry = counts.get(setting)
        if entry is not None:
            entry[1] += asked - refused
            entry[2] += refused
        elif len(counts) < SETTINGS:
            counts[setting] = [number, asked - refused, refused]
        else:
            self._others[side] += asked - refused

    def take(self) -> Mapping[str, object]:
        """Give what was counted, and begin again.

        Returns:
            for "attack" and "benign" a list of `{defence, strength, first_round, answered}`, in
            the order of first use, each with `refused`, `refuse`, `cut_off`, `delay` and `rate`
            where there is such a thing; where there were more settings than are told apart,
            "attack_others" and "benign_others" count the images that the rest answered; and where
            there were any, "attack_refused" and "benign_refused" count all that were refused.
        """
        taken: dict[str, object] = {
            side: [_written(setting, *counted) for setting, counted in counts.items()]
            for side, counts in self._sides.items()
        }
        taken |= {f"{side}_others": count for side, count in self._others.items() if count}
        taken |= {f"{side}_refused": count for side, count in self._refused.items() if count}
        self._begin()
        return taken


def _written(setting: Setting, first: int, answered: int, refused: int) -> dict[str, object]:
    defence, strength, refuse, cut_off, delay, rate = setting
    more = {"refused": refused, "refuse": refuse, "cut_off": cut_off, "delay": float(delay),
            "rate": None if rate is None else min(float(rate), LIFTED)}  # fmt: skip
    return {
        "defence": int(defence),
        "strength": float(strength),
        "first_round": first,
        "answered": answered,
        **{name: value for name, value in more.items() if value},
    }
