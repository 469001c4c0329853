"""Less of the answer: the largest entries, rounded numbers, or the label alone."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from envs.defences.base import Serving
from envs.defences.harden_kit import HardenKit
from envs.defences.label_preserving import PosteriorDefence, Preserve
from envs.ranges import Natural
from envs.victim.victim import Victim


class Truncation(PosteriorDefence):
    """Serve only the largest entries of an answer, rounded.

    Hard labels: the undefended victim's, unless rounding ties the two largest entries, of which
    the lower class wins; with `preserve_top1` "on" or "label_only" always.

    Args:
        top: entries that are served; 0 serves all, 1 the label alone.
        decimals: digits after the point; none rounds nothing. The last digit of rounded answers
            is moved by the normalisation that lets rows sum to 1 again.
        rest: what stands in for entries that are not served: "zero" normalises the others,
            "even" spreads what they held over the classes left out.
        preserve_top1: "off" (plain rounding), "label_only", or "on", which gives the label one
            more unit of the last digit where rounding tied it. Nothing else here changes a label.

    Raises:
        ValueError: a value outside its range.
    """

    answers_only = True
    margin: ClassVar[float] = 0.0
    """Shrinking towards the clean posterior would serve the digits that were rounded away."""

    def __init__(
        self,
        *,
        top: Natural = 0,
        decimals: int | None = None,
        rest: Literal["zero", "even"] = "zero",
        preserve_top1: Preserve = "off",
    ) -> None:
        if top < 0:
            raise ValueError(f"expected top of at least 0 entries, got {top}")
        if decimals is not None and not 1 <= decimals <= 7:
            raise ValueError(f"expected 1 to 7 decimals, got {decimals}")
        super().__init__(epsilon=2.0, preserve_top1=preserve_top1)
        self.top, self.decimals, self.rest = top, decimals, rest
        self._adjust_budget(num_classes=None)

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Learn the number of classes, which bounds what rounding can change."""
        self._adjust_budget(num_classes=victim.num_classes)
        return victim

    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Return what is left of the answers."""
        served = clean
        if 0 < self.top < clean.shape[1]:
            served = largest(served, self.top, self.rest)
        if self.decimals is not None:
            keep = self.preserve_top1 == "on"
            served = rounded(served, self.decimals, label=clean.argmax(1) if keep else None)
        return torch.lerp(clean, served, serving.strength)

    def _adjust_budget(self, num_classes: int | None) -> None:
        if self.top == 0 and self.decimals is None:
            self.epsilon = 0.0
        elif self.top == 0 and self.decimals is not None and num_classes is not None:
            # half a unit for every class and one for the label, and as much by normalisation
            self.epsilon = min(2.0, (num_classes + 2) * 10.0**-self.decimals)
        else:
            self.epsilon = 2.0


def largest(posteriors: Tensor, count: int, rest: Literal["zero", "even"]) -> Tensor:
    """Keep the `count` largest entries of each row; ties go to the lowest class.

    Args:
        posteriors: (n, K) float64 on the simplex.
        count: 1 to K - 1.
        rest: "zero" or "even", see `Truncation`.

    Returns:
        (n, K) on the simplex.
    """
    order = posteriors.argsort(dim=1, descending=True, stable=True)
    kept = torch.zeros_like(posteriors, dtype=torch.bool).scatter(1, order[:, :count], True)
    served = posteriors.masked_fill(~kept, 0.0)
    total = served.sum(1, keepdim=True)
    if rest == "zero":
        return served / total
    share = (1 - total).clamp_min(0) / (posteriors.shape[1] - count)
    return torch.where(kept, served, share)


def rounded(posteriors: Tensor, decimals: int, label: Tensor | None = None) -> Tensor:
    """Round entries and normalise rows.

    Args:
        posteriors: (n, K) float64 on the simplex.
        decimals: digits after the point.
        label: (n,) the largest entries, if they must stay ahead: they get a unit more where
            rounding tied them.

    Returns:
        (n, K) on the simplex; a row that rounds to nothing is its label.
    """
    units = 10**decimals
    whole = (posteriors * units).round_()
    leader = posteriors.argmax(1, keepdim=True) if label is None else label.unsqueeze(1)
    nothing = whole.sum(1, keepdim=True) == 0
    whole.scatter_add_(1, leader, nothing.double())
    if label is not None:
        rivals = whole.scatter(1, leader, -1.0).amax(1, keepdim=True)
        tied = rivals >= whole.gather(1, leader)
        whole.scatter_add_(1, leader, tied.double())
    shares: Tensor = whole.div_(whole.sum(1, keepdim=True))
    return shares
