"""What is measured of an episode: its name, its unit, and where it lies in the log's row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from arena.log.rows import EpisodeRow

Unit = Literal["share", "points", "l1", "macs", "seconds"]


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is measured of an episode.

    Attributes:
        name: as the log calls it.
        label: as a reader sees it.
        unit: "share" is 0 to 1, "points" a difference of two shares, "l1" is 0 to 2.
        read: takes it out of an episode's row; None where it was not measured.
        bounds: what its mean cannot leave.
    """

    name: str
    label: str
    unit: Unit
    read: Callable[[EpisodeRow], float | None]
    bounds: tuple[float, float]


def utility_loss(episode: EpisodeRow) -> float | None:
    """Tell what the defence takes from benign users: the victim's accuracy minus the served one."""
    if episode.victim_accuracy is None or episode.served_accuracy is None:
        return None
    return episode.victim_accuracy - episode.served_accuracy


def compute_share(episode: EpisodeRow) -> float | None:
    """Tell what all answers of an episode cost, as a share of running the whole network."""
    spent = answered = 0.0
    for count, macs in (
        (episode.attack_answered, episode.attack_macs_mean),
        (episode.benign_answered, episode.benign_macs_mean),
    ):
        if count:
            if macs is None:
                return None
            spent, answered = spent + count * macs, answered + count
    return spent / (answered * episode.full_macs) if answered and episode.full_macs else None


def _logged(
    name: str, label: str, unit: Unit, bounds: tuple[float, float] = (0, float("inf"))
) -> Measure:
    """Make a measure of a column of the log."""

    def read(episode: EpisodeRow) -> float | None:
        value = getattr(episode, name)
        return None if value is None else float(value)

    return Measure(name, label, unit, read, bounds)


MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        _logged("clone_accuracy", "clone accuracy", "share", (0, 1)),
        _logged("clone_fidelity", "clone fidelity", "share", (0, 1)),
        _logged("victim_accuracy", "victim accuracy", "share", (0, 1)),
        _logged("served_accuracy", "served accuracy", "share", (0, 1)),
        _logged("served_agreement", "served agreement", "share", (0, 1)),
        Measure("utility_loss", "accuracy lost to benign users", "points", utility_loss, (-1, 1)),
        _logged("distortion_mean", "distortion", "l1", (0, 2)),
        Measure("compute_share", "compute, all answers", "share", compute_share, (0, float("inf"))),
        _logged("attack_compute_share", "compute per attack query", "share"),
        _logged("benign_compute_share", "compute per benign query", "share"),
        _logged("attack_macs_mean", "MACs per attack query", "macs"),
        _logged("benign_macs_mean", "MACs per benign query", "macs"),
        _logged("attack_seconds_mean", "time per attack query", "seconds"),
        _logged("benign_seconds_mean", "time per benign query", "seconds"),
        _logged("wall_seconds", "wall time", "seconds"),
    )
}
"""Every measure of an episode, by name."""
