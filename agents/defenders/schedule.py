"""The defender that turns its knob by the number of answers."""

from bisect import bisect_right
from collections.abc import Sequence

from agents.base import Defender, DefenderKit
from agents.defenders.countermeasures import Step, check_indices, read_step
from envs.errors import PlayerError
from envs.game.rounds import Countermeasure, View


class Schedule(Defender):
    """Answers by one countermeasure after the other, as images are answered.

    Args:
        pieces: tables of `from`, `defence` and `strength`, in rising order of `from`. A piece holds
            from so many answered images on (to whomever), until the next one begins. The first
            begins at 0. A request is answered whole by the piece it begins in. Defence 0 at full
            strength throughout where absent.

    Raises:
        PlayerError: no pieces, a first one that does not begin at 0, an order that does not
            rise, or a countermeasure that does not exist.

    Example:
        >>> import torch
        >>> half = Schedule([{"from": 0, "strength": 0}, {"from": 1000, "strength": 0.5}])
        >>> half.act(View(torch.zeros(1, 1, 8, 8), client=0, answered=1000)).strength
        0.5
    """

    def __init__(self, pieces: Sequence[Step] = ({"from": 0},)) -> None:
        self._begins = [int(piece.get("from", 0)) for piece in pieces]
        if not pieces or self._begins[0] != 0:
            raise PlayerError("expected pieces of which the first is from = 0")
        if any(a >= b for a, b in zip(self._begins, self._begins[1:], strict=False)):
            raise PlayerError(f"expected pieces in rising order of 'from', got {self._begins}")
        self._decisions = [
            read_step(piece, where=f"pieces[{number}]", beside=["from"])
            for number, piece in enumerate(pieces)
        ]

    def begin(self, kit: DefenderKit) -> None:
        """Set up; PlayerError where a piece names a defence that is not deployed."""
        check_indices(self._decisions, len(kit.deployed_defences))

    def act(self, view: View) -> Countermeasure:
        """Decide by how many images were answered before this request."""
        return self._decisions[bisect_right(self._begins, view.answered) - 1]
