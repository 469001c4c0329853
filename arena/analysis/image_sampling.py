"""Computes how far an accuracy may be off because it was measured on a limited number of images.

The spread over seeds does not show it where every seed is scored on the same images. Where each
seed divides the data anew (`data.resample`) the spread shows a part; but those divisions overlap in
one data set, so that it is added whole there too: an interval may be too wide, never too narrow.

An accuracy on n images has the variance p (1 - p) / n; the difference of two accuracies has at most
the sum of both, and less where the two are known to agree on most images.
"""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from statistics import fmean

from arena.analysis.intervals import Interval, mean_interval
from arena.log.rows import EpisodeRow

ACCURACIES = (
    "clone_accuracy",
    "clone_fidelity",
    "victim_accuracy",
    "served_accuracy",
    "served_agreement",
)
"""Columns that are a share of the test images."""

AGREEMENTS = {"clone_accuracy": "clone_fidelity", "served_accuracy": "served_agreement"}
"""For an accuracy, how often the same answers name the undefended victim's class."""

MOST_IMAGES = 1_000_000
"""A share of more images than that is taken for no share at all."""


def scored_images(episodes: Iterable[EpisodeRow]) -> int | None:
    """Count the test images of episodes on the same data; None if that cannot be told.

    Every accuracy is a count divided by their number, which is therefore a multiple of the least
    common denominator of all accuracies. That is returned: with several episodes it is the number
    itself, and it is never more, so that an interval from it is never too narrow.
    """
    return common_denominator(
        value
        for row in episodes
        for name in ACCURACIES
        if (value := getattr(row, name)) is not None
    )


def images_by_data(episodes: Iterable[EpisodeRow]) -> dict[str, int | None]:
    """Count the test images of each data set, by the name that `data_of` gives it."""
    groups: dict[str, list[EpisodeRow]] = defaultdict(list)
    for row in episodes:
        groups[data_of(row)].append(row)
    return {data: scored_images(rows) for data, rows in groups.items()}


def common_denominator(shares: Iterable[float]) -> int | None:
    """Find the least number of images of which all these can be shares.

    None without a share that tells, and where the number would be above `MOST_IMAGES`.
    """
    images = 1
    for share in set(shares):
        found = Fraction(share).limit_denominator(MOST_IMAGES)
        if found.numerator / found.denominator != share:
            return None
        images = math.lcm(images, found.denominator)
        if images > MOST_IMAGES:
            return None
    return images if images > 1 else None


def share_variance(share: float, images: int | None) -> float:
    """Give the sampling variance of a share of so many images; 0 where their number is unknown.

    Two right and two wrong answers are added, so that 0 and 1 are not taken for certain.

    Source:
        Agresti and Coull 1998, "Approximate is better than exact", The American Statistician 52.
    """
    if images is None:
        return 0.0
    settled = (share * images + 2) / (images + 4)
    return settled * (1 - settled) / (images + 4)


def accuracy_interval(values: Sequence[float], images: int | None) -> Interval:
    """Give the mean of an accuracy with its interval over seeds and so many test images."""
    found = mean_interval(values)
    return found.widened(share_variance(found.mean, images)).within(0, 1)


@dataclass(frozen=True, eq=False)
class Scored:
    """Episodes that were scored on the same images, and how many images; None if unknown."""

    episodes: Collection[EpisodeRow]
    images: int | None
    _means: dict[str, float | None] = field(default_factory=dict, init=False, repr=False)

    def on(self, seeds: Set[int]) -> "Scored":
        """Leave out the episodes of other seeds; without any it is the same object."""
        if self.seeds <= seeds:
            return self
        return Scored([one for one in self.episodes if one.seed in seeds], self.images)

    def mean(self, name: str) -> float | None:
        """Average a column over the episodes that have it, once; None where none has."""
        if name not in self._means:
            values = [value for row in self.episodes if (value := getattr(row, name)) is not None]
            self._means[name] = fmean(values) if values else None
        return self._means[name]

    @cached_property
    def seeds(self) -> frozenset[int]:
        """The seeds that were played."""
        return frozenset(row.seed for row in self.episodes)

    @cached_property
    def victims(self) -> frozenset[tuple[int, str]]:
        """The victim of each seed."""
        return frozenset((row.seed, row.victim_settings) for row in self.episodes)


def sampling_variance(measure: str, side: Scored) -> float:
    """Give the sampling variance of a measure's mean over episodes; 0 for what is no accuracy.

    The loss of benign users is a difference of two accuracies on the same images, which can only
    differ where a served answer is not the victim's.
    """
    if measure == "utility_loss":
        served, victim, agreement = map(
            side.mean, ("served_accuracy", "victim_accuracy", "served_agreement")
        )
        if served is None or victim is None:
            return 0.0
        return _paired(served, victim, None if agreement is None else 1 - agreement, side.images)
    share = side.mean(measure) if measure in ACCURACIES else None
    return 0.0 if share is None else share_variance(share, side.images)


def difference_variance(measure: str, first: Scored, second: Scored) -> float:
    """Give the sampling variance of the difference of two means.

    Which images either side got right is not kept. But where both had the same victim, their
    answers differ only where one of them is not the victim's: with agreements a and b on at most
    (1 - a) + (1 - b) of the images.
    """
    if measure not in ACCURACIES or first.victims != second.victims:
        return sampling_variance(measure, first) + sampling_variance(measure, second)
    one, other = first.mean(measure), second.mean(measure)
    if one is None or other is None:
        return 0.0
    agreements = [_agreement(measure, side) for side in (first, second)]
    known = [agreement for agreement in agreements if agreement is not None]
    differing = sum(1 - agreement for agreement in known) if len(known) == 2 else None
    return _paired(one, other, differing, first.images)


def _paired(one: float, other: float, differing: float | None, images: int | None) -> float:
    """Bound the variance of a difference of shares whose answers differ on so many images."""
    unpaired = share_variance(one, images) + share_variance(other, images)
    if images is None or differing is None:
        return unpaired
    return min(unpaired, max(0.0, differing - (one - other) ** 2) / images)


def _agreement(accuracy: str, side: Scored) -> float | None:
    """Tell how often the answers behind an accuracy name the undefended victim's class."""
    if accuracy == "victim_accuracy":
        return 1.0
    return side.mean(AGREEMENTS[accuracy]) if accuracy in AGREEMENTS else None


def data_of(episode: EpisodeRow) -> str:
    """Name the data that an episode was scored on, with its options."""
    return json.dumps([episode.data, episode.plan.get("data")], sort_keys=True, default=str)
