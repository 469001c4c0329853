"""PRADA: tells an attacker by how the distances between its queries are distributed.

Source:
    Juuti, Szyller, Marchal and Asokan 2019, PRADA: protecting against DNN model stealing attacks,
    EuroS&P, arXiv:1805.02628; the details from the authors' code.
"""

import math
from itertools import islice

import torch
from torch import Tensor

from agents.base import DefenderKit
from agents.defenders.flagging import LABELS, Calibrated
from agents.defenders.query_drift import fingerprints
from envs.game.rounds import View

EVERY = 10
"""Queries of an account between two tests."""

LEAST = 100
"""Distances below which nothing is tested."""

OF_CLASS = 10
"""Distances that a class needs to be counted."""

MOST = 5000
"""Images kept of a class, and latest distances that are tested, at most."""


class Prada(Calibrated):
    """Flags an account whose distances between queries are not normally distributed.

    For each class that the victim sees in an account's queries a set of images grows. The distance
    of a query is that to the nearest image of its class's set, and it joins the set where the
    distance is above the set's threshold: the largest that mean minus standard deviation of the
    distances inside the set ever was. Every tenth query all distances are tested together, of
    classes with ten at least and without those three deviations or more from the mean: with more
    than 100 of them, W is Shapiro and Wilk's statistic. The score is 1 - W.

    Other parameters are those of `agents.defenders.flagging.Calibrated`.

    Args:
        limit: of 1 - W; 0.05 stands for the paper's W of 0.95. Calibrated where absent.

    Raises:
        PlayerError: a parameter out of range.

    Notes:
        Ours differs: a flag stays, where the released code tests anew and lets it fall; each
        account has a detector of its own; exact repeats of an image are no evidence; a class keeps
        5,000 images at most; the answer to a flagged account is the scenario's, where the paper
        shuffles the three largest logits.
    """

    def fit(self, kit: DefenderKit) -> None:
        """Nothing is learned from the owner's images but the limit."""

    def own_images(self, kit: DefenderKit) -> Tensor:
        """Return all of the owner's images: distances between them know no victim's features."""
        return torch.cat([kit.train.images(), kit.validation.images()])

    def new_score(self) -> "Distances":
        """Return the score of an account that has not asked yet."""
        return Distances()


class Distances:
    """The distances between one account's queries, as PRADA takes them."""

    def __init__(self) -> None:
        self._sets: dict[int, ClassSet] = {}
        self._told: list[tuple[int, float]] = []  # class and distance, in the order asked
        self._seen: set[int] = set()
        self._count = 0

    @property
    def values(self) -> list[float]:
        """The latest `MOST` distances of the classes that have enough of them."""
        enough = {label for label, one in self._sets.items() if len(one.distances) >= OF_CLASS}
        latest = (value for label, value in reversed(self._told) if label in enough)
        return list(islice(latest, MOST))

    def add(self, view: View) -> float:
        """Take a request; returns the largest 1 - W of its tests, 0 where none fell due."""
        labels = view.features(LABELS).argmax(1).tolist()
        images = view.images
        points = images.flatten(1).double().cpu()
        highest = 0.0
        for point, label, print_ in zip(points, labels, fingerprints(images).tolist(), strict=True):
            if print_ not in self._seen:
                self._seen.add(print_)
                distance = self._sets.setdefault(label, ClassSet()).add(point)
                if distance is not None:
                    self._told.append((label, distance))
            self._count += 1
            if self._count % EVERY == 0:
                highest = max(highest, non_normality(self.values))
        return highest


class ClassSet:
    """The growing set of one class.

    Attributes:
        distances: of every query but the first, the oldest first.
        threshold: distance above which a query joins the set.
    """

    def __init__(self) -> None:
        self.distances: list[float] = []
        self.threshold = 0.0
        self._points = torch.empty(0)
        self._count = 0
        self._total = self._squares = 0.0  # of the distances inside the set, the first of them 0

    def add(self, point: Tensor) -> float | None:
        """Take a query, (d,) float64; returns its distance, None for the first one."""
        if self._count == 0:
            self._join(point, 0.0)
            return None
        distance = float((self._points[: self._count] - point).norm(dim=1).min())
        self.distances.append(distance)
        if distance > self.threshold and self._count < MOST:
            self._join(point, distance)
            mean = self._total / self._count
            spread = math.sqrt(max(0.0, self._squares / self._count - mean * mean))
            self.threshold = max(self.threshold, mean - spread)
        return distance

    def _join(self, point: Tensor, distance: float) -> None:
        if self._count == len(self._points):
            more = point.new_empty(max(16, 2 * self._count), len(point))
            if self._count:
                more[: self._count] = self._points
            self._points = more
        self._points[self._count] = point
        self._count += 1
        self._total += distance
        self._squares += distance * distance


def non_normality(values: list[float]) -> float:
    """Return 1 - W of distances, without far ones; 0 where they are too few or all alike."""
    from scipy.stats import shapiro  # takes a second to load

    sample = torch.tensor(values, dtype=torch.float64)
    if len(sample) <= LEAST:
        return 0.0
    deviation = sample.std(correction=0)
    sample = sample[(sample - sample.mean()).abs() < 3 * deviation]
    if len(sample) <= LEAST:
        return 0.0
    return 1.0 - float(shapiro(sample.numpy()).statistic)
