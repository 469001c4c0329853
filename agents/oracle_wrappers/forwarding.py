"""Oracles that pass requests on: with a smaller budget, or with changed answers.

The innermost oracle counts the queries, because it alone sees what reaches the victim.
"""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from envs.errors import BudgetExhausted
from envs.oracle import Oracle
from envs.types import Response, ThreatModel


class Allowance:
    """A share of another oracle's budget.

    Args:
        oracle: what answers and charges.
        count: images that may be asked here, as far as `oracle` has them left.
        after: called after every answer.
    """

    def __init__(
        self, oracle: Oracle, count: int, *, after: Callable[[], None] = lambda: None
    ) -> None:
        self._oracle, self._left, self._after = oracle, count, after
        self.threat: ThreatModel = replace(oracle.threat, budget=self.remaining)

    @property
    def remaining(self) -> int:
        """Images that may still be asked here."""
        return min(self._left, self._oracle.remaining)

    def query(self, images: Tensor, account: int | None = None) -> Response:
        """Ask for answers; see `envs.oracle.Oracle.query`."""
        if len(images) > self.remaining:
            raise BudgetExhausted(
                f"asked for {len(images)} answers with {self.remaining} of this phase's "
                f"{self.threat.budget} left"
            )
        response = ask(self._oracle, images, account)
        self._left -= len(images)
        self._after()
        return response


class Restored:
    """Repairs the answers of another oracle.

    Args:
        oracle: what answers and charges.
        restore: maps served (n, K) answers to (n, K) repaired ones on the simplex.
    """

    def __init__(self, oracle: Oracle, restore: Callable[[Tensor], Tensor]) -> None:
        self._oracle, self._restore = oracle, restore

    @property
    def threat(self) -> ThreatModel:
        """What may be asked and what an answer shows."""
        return self._oracle.threat

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        return self._oracle.remaining

    def query(self, images: Tensor, account: int | None = None) -> Response:
        """Ask for answers and repair them."""
        response = ask(self._oracle, images, account)
        return Response(self._restore(response.posteriors), latency_of(response, self.threat))


def ask(oracle: Oracle, images: Tensor, account: int | None) -> Response:
    """Ask for answers; an oracle of others, which may know no accounts, is told one if there is."""
    return oracle.query(images) if account is None else oracle.query(images, account)


def latency_of(response: Response, threat: ThreatModel) -> Tensor | None:
    """Return the (n,) seconds of answers where the threat model shows them, else None."""
    return response.latency if threat.latency_visible else None
