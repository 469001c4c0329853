"""Counts which settings of a defender answered whom, for the log's `round.countermeasure`."""

from collections.abc import Mapping

from envs.game.rounds import AnsweredRequest, Round

SETTINGS = 8
"""Settings of one kind of traffic that a bucket tells apart; the images of others are summed."""

Counts = dict[tuple[int, float], list[int]]
"""By defence and strength: the first round, and the images answered."""


class CountermeasureCounts:
    """Counts, between two calls of `take`, the images that each setting answered.

    A setting is a defence's index and a strength. What is kept is bounded, whatever a defender
    does: `SETTINGS` for the attacker, as many for benign users.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._sides: dict[str, Counts] = {"attack": {}, "benign": {}}
        self._others = {"attack": 0, "benign": 0}

    def on_round(self, round: Round) -> None:
        """Count a round's requests."""
        self._add("attack", round.number, round.attack)
        for request in round.benign:
            self._add("benign", round.number, request)

    def _add(self, side: str, number: int, request: AnsweredRequest) -> None:
        decision, answered = request.countermeasure, request.images.shape[0]
        counts = self._sides[side]
        entry = counts.get((decision.defence, decision.strength))
        if entry is not None:
            entry[1] += answered
        elif len(counts) < SETTINGS:
            counts[decision.defence, decision.strength] = [number, answered]
        else:
            self._others[side] += answered

    def take(self) -> Mapping[str, object]:
        """Give what was counted, and begin again.

        Returns:
            for "attack" and "benign" a list of `{defence, strength, first_round, answered}`, in
            the order of first use; where there were more settings than are told apart,
            "attack_others" and "benign_others" count the images that the rest answered.
        """
        taken: dict[str, object] = {
            side: [
                {
                    "defence": int(defence),
                    "strength": float(strength),
                    "first_round": first,
                    "answered": count,
                }
                for (defence, strength), (first, count) in counts.items()
            ]
            for side, counts in self._sides.items()
        }
        taken |= {f"{side}_others": count for side, count in self._others.items() if count}
        self._begin()
        return taken
