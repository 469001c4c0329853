"""Tells an attacker by where its queries lie in the victim's last features, in windows.

Source:
    In the manner of Mei et al. 2025, D-ADD, AAAI, arXiv:2503.12497; the distance is that of Lee et
    al. 2018, A simple unified framework for detecting out-of-distribution samples, NeurIPS,
    arXiv:1807.03888.
"""

import torch
from torch import Tensor

from agents.base import DefenderKit
from agents.defenders.countermeasures import Step
from agents.defenders.flagging import LABELS, Calibrated
from envs.errors import PlayerError
from envs.game.rounds import View
from envs.ranges import Count, Share


class FeatureGaussian(Calibrated):
    """Flags an account with a window of queries far from the owner's images in feature space.

    The features of the training images are taken for Gaussian: each class around its own mean, all
    with one covariance. The score of a window is the mean of the squared Mahalanobis distances of
    its queries from the mean of the class that the victim sees in each.

    Other parameters are those of `agents.defenders.flagging.Calibrated`.

    Args:
        window: latest queries of an account that are judged together.
        shrinkage: weight of the mean variance against the measured covariance, which it keeps
            invertible where there are more features than images.

    Raises:
        PlayerError: a parameter out of range.

    Notes:
        Ours differs: D-ADD takes the Frechet distance between the Gaussians of a window's classes
        and those of the training images, each with a covariance of its own; at 16 queries of 10
        classes that is close to a mean squared distance. Its window is whatever one call brings,
        and ours the latest queries of an account; its flags fall back, and ours stay.
        A benign user with images of another kind lies as far off as an attacker.
    """

    def __init__(
        self,
        *,
        window: Count = 16,
        shrinkage: Share = 0.01,
        limit: float | None = None,
        false_alarms: Share = 0.01,
        calibration: Count = 100,
        queries: Count = 200,
        calm: Step | None = None,
        flagged: Step | None = None,
        most_clients: Count = 1000,
    ) -> None:
        super().__init__(
            limit=limit,
            false_alarms=false_alarms,
            calibration=calibration,
            queries=queries,
            calm=calm,
            flagged=flagged,
            most_clients=most_clients,
        )
        if window < 1 or not 0 <= shrinkage <= 1:
            raise PlayerError(
                f"expected a window of at least 1 and a shrinkage from 0 to 1, got {window} and "
                f"{shrinkage}"
            )
        self._window, self._shrinkage = window, shrinkage

    def fit(self, kit: DefenderKit) -> None:
        """Measure means and covariance of the training images' features."""
        features = kit.victim.features(kit.train.images())
        self._gaussians = Gaussians(features, kit.train.labels, kit.train.num_classes,
                                    shrinkage=self._shrinkage)  # fmt: skip

    def new_score(self) -> "Windows":
        """Return the score of an account that has not asked yet."""
        return Windows(self._gaussians, self._window)


class Gaussians:
    """A Gaussian for each class, all with one covariance.

    Args:
        features: (n, ...) float, flattened here.
        labels: (n,) int64.
        num_classes: K; a class without an image gets the mean of all.
        shrinkage: weight of the mean variance, 0 to 1.
    """

    def __init__(
        self, features: Tensor, labels: Tensor, num_classes: int, *, shrinkage: float
    ) -> None:
        points = features.flatten(1).double()
        means = [points[labels == label] for label in range(num_classes)]
        self._means = torch.stack([(own if len(own) else points).mean(0) for own in means])
        centred = points - self._means[labels]
        covariance = centred.T @ centred / len(points)
        variance = covariance.diagonal().mean().clamp_min(1e-12)
        identity = torch.eye(len(covariance), dtype=torch.float64, device=points.device)
        # a little of the identity in any case: features that are always 0 have no variance
        weight = max(shrinkage, 1e-6)
        mixed = (1 - weight) * covariance + weight * variance * identity
        self._factor = torch.linalg.cholesky(mixed)

    def distances(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return (n,) squared Mahalanobis distances of (n, ...) features from their classes."""
        centred = features.flatten(1).double() - self._means[labels]
        solved = torch.linalg.solve_triangular(self._factor, centred.T, upper=False)
        found: Tensor = solved.square().sum(0)
        return found


class Windows:
    """The score of one account: the mean distance of its latest queries."""

    def __init__(self, gaussians: Gaussians, window: int) -> None:
        self._gaussians, self._window = gaussians, window
        self._kept: Tensor | None = None

    def add(self, view: View) -> float:
        """Take a request; returns the highest mean of a window that ends in it, 0 before one."""
        labels = view.features(LABELS).argmax(1)
        distances = self._gaussians.distances(view.features(), labels)
        if self._kept is not None:
            distances = torch.cat([self._kept, distances])
        self._kept = distances[max(0, len(distances) - self._window + 1) :]
        if len(distances) < self._window:
            return 0.0
        return float(distances.unfold(0, self._window, 1).mean(1).max())
