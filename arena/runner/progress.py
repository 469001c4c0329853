"""Reports the progress of a match while it is played."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an episode stands.

    Attributes:
        used, budget: images asked and granted.
        clone_accuracy: last measured, 0 to 1; None before a trained clone was measured.
        seconds: since the episode began.
        reported: the numbers the attacker last reported.
    """

    used: int
    budget: int
    clone_accuracy: float | None
    seconds: float
    reported: dict[str, float] = field(default_factory=dict)

    @property
    def queries_per_second(self) -> float:
        """Images answered per second of the episode so far."""
        return self.used / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate of what is left, None before the first answer."""
        rate = self.queries_per_second
        return (self.budget - self.used) / rate if rate > 0 else None


class Watcher:
    """Observes a match; override any method, and change nothing of the match."""

    def line(self, text: str) -> None:
        """Receive a line on the preparation ("training victim resnet10, epoch 3 of 30")."""

    def begin(self, title: str, index: int, total: int) -> None:
        """Receive the start of an episode; `index` counts from 0 to `total` - 1."""

    def phase(self, title: str, phase: str) -> None:
        """Receive what an episode does now: "training victim", "hardening" or "scoring".

        In between it attacks, which `progress` tells of; once the budget is used up it trains its
        clone.
        """

    def progress(self, title: str, progress: Progress) -> None:
        """Receive where an episode stands, a few times a second. Several may run at once."""

    def skip(self, title: str, episode_id: str) -> None:
        """Receive an episode that is skipped because the log already has it."""

    def end(self, title: str, episode_id: str, status: str, error: str | None) -> None:
        """Receive the end of an episode: success, cancelled or error."""
