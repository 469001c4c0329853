"""The defender that never changes its mind."""

from agents.base import Defender, DefenderKit
from envs.errors import PlayerError
from envs.game.rounds import Countermeasure, View


class Static(Defender):
    """Answers every request by one defence at one strength.

    Args:
        strength: of the defence, 0 (off) to 1 (as configured).
        defence: index of the defence, among those brought.

    Raises:
        PlayerError: a strength or a defence out of range, the latter in `begin`.
    """

    def __init__(self, *, strength: float = 1.0, defence: int = 0) -> None:
        if not 0 <= strength <= 1:
            raise PlayerError(f"expected a strength from 0 to 1, got {strength}")
        self._decision = Countermeasure(defence, strength)

    def begin(self, kit: DefenderKit) -> None:
        """Check that the defence is there."""
        count = len(kit.deployed_defences)
        if not 0 <= self._decision.defence < count:
            raise PlayerError(
                f"this defender uses defence {self._decision.defence}, but the scenario brought "
                f"{count} (counted from 0); change its 'defence' or list more defences"
            )

    def act(self, view: View) -> Countermeasure:
        """Decide as ever."""
        return self._decision
