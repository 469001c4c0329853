"""The attacker's only access to the victim."""

from typing import Protocol

from torch import Tensor

from envs.types import Response, ThreatModel


class Oracle(Protocol):
    """A black-box API that answers images under a query budget.

    One query is one image. The game charges it (`envs.game.extraction_game`), repeats and probes
    included. A call is all or nothing: a refused call costs nothing and changes nothing.
    """

    @property
    def threat(self) -> ThreatModel:
        """What may be asked and what an answer shows."""
        ...

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        ...

    def query(self, images: Tensor) -> Response:
        """Ask for the answers to a batch of images.

        Args:
            images: (n, c, h, w) float32 in [0, 1], n at most `remaining`. On any device.

        Returns:
            The answers, on the victim's device.

        Raises:
            BudgetExhausted: n is larger than `remaining`; nothing was charged.
            QueryError: wrong shape, dtype or range, or not finite; nothing was charged.
        """
        ...
