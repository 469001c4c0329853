"""The server's clock, and what it holds against accounts: cut off, or slowed down to a rate."""

import math
from typing import Any

from torch import Tensor

from envs.game.rounds import Countermeasure

NOMINAL = 1e-3
"""Seconds that an image takes in a game without a clock, and a request that is refused."""


class Standings:
    """Keeps the server's time, and what countermeasures say of accounts to come.

    Requests come one after the other: each takes as long as its slowest answer, by the game's clock
    (modelled or really measured), or a millisecond an image where the game has none; and as long as
    its answers are held back.

    Attributes:
        elapsed: seconds since the episode began; on an accelerator a 0-d tensor, which is not
            waited for.
        closed: accounts that are cut off, by the numbers that the server sees.
    """

    def __init__(self) -> None:
        self.elapsed: float | Tensor = 0.0
        self.closed: set[int] = set()
        self._rates: dict[int, float] = {}
        self._due: dict[int, float] = {}  # when the next answer may come

    def wait(self, client: int) -> float:
        """Return the seconds until an account gets its next answer; 0 where nothing slows it."""
        due = self._due.get(client)
        return 0.0 if due is None else max(0.0, due - float(self.elapsed))

    def hold(self, client: int, decision: Countermeasure, count: int) -> float:
        """Return the seconds for which the answers to a request are held back.

        Args:
            client: the account that asks.
            decision: how it is answered; a rate that it sets holds from this request on.
            count: images of the request.
        """
        if decision.rate is not None:
            self._set_rate(client, decision.rate)
        rate = self._rates.get(client)
        if rate is None:
            return decision.delay
        wait = self.wait(client)
        self._due[client] = float(self.elapsed) + wait + count / rate
        return wait + decision.delay

    def pass_time(self, count: int, latency: Tensor | None, held: float = 0.0) -> None:
        """Let the time of a request pass.

        Args:
            count: its images; 0 of one that is refused.
            latency: (n,) float64 seconds of its answers, until they are held back; None in a game
                without a clock.
            held: seconds for which they are held back.
        """
        taken = max(1, count) * NOMINAL if latency is None else latency.amax()
        self.elapsed = self.elapsed + taken + held if held else self.elapsed + taken

    def copy(self) -> "Standings":
        """Return standings that go their own way from here."""
        other = Standings()
        other.restore(self.state())
        return other

    def state(self) -> dict[str, object]:
        """Return all of it; see `restore`."""
        return {
            "elapsed": float(self.elapsed),
            "closed": sorted(self.closed),
            "rates": dict(self._rates),
            "due": dict(self._due),
        }

    def restore(self, state: dict[str, Any]) -> None:  # Any: as `state` returns it
        """Go on from what another's `state` returned."""
        self.elapsed, self.closed = state["elapsed"], set(state["closed"])
        self._rates, self._due = dict(state["rates"]), dict(state["due"])

    def _set_rate(self, client: int, rate: float) -> None:
        if rate == math.inf:
            self._rates.pop(client, None)
            self._due.pop(client, None)
        else:
            self._rates[client] = rate
