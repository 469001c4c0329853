"""The server's clock, by which requests come and accounts are slowed down."""

from torch import Tensor

NOMINAL = 1e-3
"""Seconds that an image takes in a game without a clock."""


class Standings:
    """Keeps the server's time.

    Requests come one after the other: each takes as long as its slowest answer, by the game's clock
    (modelled or really measured), or a millisecond an image where the game has none.

    Attributes:
        elapsed: seconds since the episode began; on an accelerator a 0-d tensor, which is not
            waited for.
    """

    def __init__(self) -> None:
        self.elapsed: float | Tensor = 0.0

    def answered(self, count: int, latency: Tensor | None) -> None:
        """Let the time of an answered request pass.

        Args:
            count: its images.
            latency: (n,) float64 seconds of its answers; None in a game without a clock.
        """
        taken = count * NOMINAL if latency is None else latency.amax()
        self.elapsed = self.elapsed + taken

    def copy(self) -> "Standings":
        """Return standings that go their own way from here."""
        other = Standings()
        other.restore(self.state())
        return other

    def state(self) -> dict[str, object]:
        """Return all of it; see `restore`."""
        return {"elapsed": float(self.elapsed)}

    def restore(self, state: dict[str, object]) -> None:
        """Go on from what `state` returned."""
        self.elapsed = float(state["elapsed"])  # type: ignore[arg-type]
