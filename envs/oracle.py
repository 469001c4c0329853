"""The attacker's only access to the victim."""

from typing import Protocol

from torch import Tensor

from envs.types import Response, ThreatModel


class Oracle(Protocol):
    """A black-box API that answers images under a query budget.

    One query is one image. The game charges it (`envs.game.extraction_game`), repeats and probes
    included. A call is all or nothing: a faulty call costs nothing and changes nothing. What the
    defender refuses is charged as `threat.refused` says.
    """

    @property
    def threat(self) -> ThreatModel:
        """What may be asked and what an answer shows."""
        ...

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        ...

    def query(self, images: Tensor, account: int | None = None) -> Response:
        """Ask for the answers to a batch of images.

        Args:
            images: (n, c, h, w) float32 in [0, 1], n at most `remaining`. On any device.
            account: which of the `threat.accounts` asks, from 0; by `threat.account_policy` if
                absent, which may split the batch. Answers come in the order asked.

        Returns:
            The answers, on the victim's device.

        Raises:
            BudgetExhausted: n is larger than `remaining`; nothing was charged.
            Refused: the defender gives this account no answer, or none any more; of several
                accounts that the policy deals to, none. It tells what was charged.
            QueryError: wrong shape, dtype or range, or not finite, or an account that is none or
                has less left; nothing was charged.
        """
        ...
