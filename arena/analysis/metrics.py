"""Defines the measures of an episode that are averaged over seeds.

They are the metrics that `OutcomeRow` declares, and a few that are computed from them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from arena.log.metric import Metric, Unit
from arena.log.outcome import METRICS
from arena.log.rows import EpisodeRow

Read = Callable[[EpisodeRow], float | None]


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is measured of an episode.

    Attributes:
        name: as the log calls it.
        metric: its label, its unit, what its mean cannot leave, and where it is shown.
        read: takes it out of an episode's row; None where it was not measured.
    """

    name: str
    metric: Metric
    read: Read

    @property
    def label(self) -> str:
        """The measure as a reader sees it."""
        return self.metric.label

    @property
    def unit(self) -> Unit:
        """The unit of its values."""
        return self.metric.unit

    @property
    def bounds(self) -> tuple[float, float]:
        """What its mean cannot leave."""
        return self.metric.bounds


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


def chance_level(episode: EpisodeRow) -> float | None:
    """Tell what a clone that guesses gets right; None where the classes are not known."""
    return 1 / episode.num_classes if episode.num_classes else None


def _column(name: str) -> Read:
    """Read a column of the log as a number."""

    def read(episode: EpisodeRow) -> float | None:
        value = getattr(episode, name)
        return None if value is None else float(value)

    return read


_UTILITY_LOSS = Metric(
    "accuracy lost to benign users", "points", (-1, 1), heading="points lost to benign users"
)
_COMPUTED: Mapping[str, Measure] = {
    "served_accuracy": Measure("utility_loss", _UTILITY_LOSS, utility_loss),
    "distortion_mean": Measure(
        "compute_share", Metric("compute, all answers", "share"), compute_share
    ),
}
"""Measures that no column holds, by the column that they follow in a list."""


def _measures() -> Iterator[Measure]:
    for name, metric in METRICS.items():
        if metric.averaged:
            yield Measure(name, metric, _column(name))
        if name in _COMPUTED:
            yield _COMPUTED[name]
    yield Measure("wall_seconds", Metric("wall time", "seconds"), _column("wall_seconds"))


MEASURES: Mapping[str, Measure] = {measure.name: measure for measure in _measures()}
"""Every measure of an episode, by name."""


def measure_of(name: str) -> Measure:
    """Return a measure by name: one of `MEASURES`, or a metric of the clone that a scenario has."""
    return MEASURES.get(name) or _of_clone(name)


def measures_of(episodes: Iterable[EpisodeRow]) -> dict[str, Measure]:
    """Return the measures that episodes may have, by name: ours, then their clones' metrics."""
    others = dict.fromkeys(name for one in episodes for name in one.clone_metrics or ())
    return {**MEASURES, **{name: _of_clone(name) for name in others}}


def _of_clone(name: str) -> Measure:
    def read(episode: EpisodeRow) -> float | None:
        value = (episode.clone_metrics or {}).get(name)
        return value if isinstance(value, float) else None

    anything = (float("-inf"), float("inf"))
    return Measure(name, Metric(name, "number", anything, heading=name, short=name), read)
