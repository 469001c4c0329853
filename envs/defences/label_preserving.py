"""Whether a perturbed answer keeps its label, and the base of defences that perturb answers."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final, get_args

import torch
from torch import Tensor

from envs.defences.base import Defence, Serving
from envs.defences.simplex import normalised, onto_simplex, within_budget

Preserve = Literal["on", "off", "label_only"]
"""Which answers keep the label of the clean posterior.

"on" shrinks a perturbation towards the clean posterior until the label stays. "off" serves what
was computed, so that a hard label is its argmax. "label_only" serves soft answers as computed and
hard answers clean. With "on" and "label_only" a hard-label attacker sees the undefended victim.
"""

MARGIN = 1e-4
"""Lead that "on" leaves to the label over every other class."""

_TINY = 1e-300


def keep_top1(
    served: Tensor, clean: Tensor, margin: float = MARGIN, label: Tensor | None = None
) -> Tensor:
    """Shrink perturbed posteriors towards the clean ones until each keeps its label.

    With d_k the lead of the clean label over class k and d'_k its lead as served, the share
    b = min over k with d'_k < margin of (d_k - margin) / (d_k - d'_k), in [0, 1], of the
    perturbation stays; its L1 distance shrinks by b too. A label that leads by less than the
    margin at first gets b = 0, the clean posterior.

    Args:
        served: (n, K) float64 on the simplex.
        clean: (n, K) float64 on the simplex.
        margin: lead to keep.
        label: (n, 1) int64, the most likely classes of `clean`, if they are known.
    """
    if label is None:
        label = clean.argmax(1, keepdim=True)
    lead = clean.gather(1, label) - clean
    new_lead = served.gather(1, label) - served
    kept = new_lead >= margin
    # where a lead shrank to below the margin and was below it at first, nothing stays
    share = (lead - margin).clamp_min_(0).div_(lead.sub_(new_lead).clamp_min_(_TINY))
    # a class does not compete with itself
    share = share.masked_fill_(kept, 1.0).scatter_(1, label, 1.0)
    return torch.lerp(clean, served, share.amin(1, keepdim=True).clamp_max_(1))


class PosteriorDefence(Defence, ABC):
    """A defence that serves other posteriors than the victim's.

    Subclasses say what in `perturb`; simplex, budget, label and dtype are seen to here, alike
    for all of them. At strength 0 an answer is the victim's to the bit.

    Args:
        epsilon: the L1 distance it promises, 0 to 2.
        preserve_top1: see `Preserve`.

    Raises:
        ValueError: a value outside its range.
    """

    margin: ClassVar[float] = MARGIN
    """Lead the label keeps under `preserve_top1="on"`."""

    def __init__(self, *, epsilon: float, preserve_top1: Preserve = "on") -> None:
        if not 0 <= epsilon <= 2:
            raise ValueError(f"expected an L1 distance epsilon from 0 to 2, got {epsilon}")
        if preserve_top1 not in get_args(Preserve):
            raise ValueError(
                f"expected preserve_top1 'on', 'off' or 'label_only', got {preserve_top1!r}"
            )
        self.epsilon, self.preserve_top1 = epsilon, preserve_top1

    @abstractmethod
    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Return what to serve instead of the clean posteriors, before the label is seen to.

        Args:
            clean: (n, K) float64, rows sum to 1.
            serving: the request; its `strength` is above 0 and scales the perturbation.

        Returns:
            (n, K) float64; what is negative is set to 0 and rows are normalised afterwards.
        """

    @final
    def perturb_posteriors(self, posteriors: Tensor, serving: Serving) -> Tensor:
        """Return what is served instead of the (n, K) float32 posteriors."""
        if serving.strength == 0 or self._serves_label_clean(serving):
            return posteriors
        clean = normalised(posteriors)
        served = onto_simplex(self.perturb(clean, serving), clean)
        served = within_budget(served, clean, self.epsilon)
        if self.preserve_top1 != "on":
            return served.float()
        label = posteriors.argmax(1, keepdim=True)
        kept = keep_top1(served, clean, self.margin, label).float()
        # rounding to float32 can tie what float64 told apart
        same = kept.argmax(1, keepdim=True) == label
        return torch.where(same, kept, posteriors)

    def _serves_label_clean(self, serving: Serving) -> bool:
        return self.preserve_top1 == "label_only" and serving.labels == "hard"
