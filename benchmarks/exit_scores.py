"""What a fortress shows of images, and how well that tells other people's from the victim's own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.nets.guarded import Guarded, suspicions
from envs.nets.multi_exit import MultiExit
from envs.victim.victim import Victim

_BATCH = 250


@dataclass(frozen=True, slots=True)
class Scores:
    """What a fortress shows of some images.

    Attributes:
        exits: (n,) int64, where each leaves; the last exit for who takes the lane of sure images.
        first: (n,) float, the higher, the stranger to the first exit.
        all: (n,) float, what is decided by: of guards the highest, which share one threshold;
            else that of the first exit.
        labels: (n,) int64, as served.
    """

    exits: Tensor
    first: Tensor
    all: Tensor
    labels: Tensor


def auroc(own: Tensor, others: Tensor) -> float:
    """Measure how well a score tells others from own images.

    It is the chance that one of the others has a higher score than one of the own, a tie counting
    one half: 1 tells them all, 0.5 none, below 0.5 it takes the own for the stranger ones.

    Args:
        own: (n,) scores of the victim's own images, n at least 1.
        others: (m,) scores, m at least 1.

    Raises:
        ValueError: no score on one of the sides.
    """
    from sklearn.metrics import roc_auc_score  # it takes seconds to load

    if len(own) == 0 or len(others) == 0:
        raise ValueError(f"expected scores on both sides, got {len(own)} and {len(others)}")
    truth = [0] * len(own) + [1] * len(others)
    return float(roc_auc_score(truth, torch.cat([own.double(), others.double()]).tolist()))


def caught(own: Tensor, others: Tensor, share: float) -> float:
    """Return the share of others above a score that this share of own images exceeds.

    Args:
        own: (n,) scores of the victim's own images, n at least 1.
        others: (m,) scores, m at least 1.
        share: of own images, in (0, 1); no more of them lie above.
    """
    ranked = own.sort().values
    limit = ranked[len(own) - 1 - int(share * len(own))]
    return float((others > limit).double().mean())


@torch.no_grad()
def scores(victim: Victim, images: Tensor) -> Scores:
    """Ask a fortress, and look at its first exit, or at all its guards."""
    parts, unused = images.split(_BATCH), torch.Generator(images.device)
    answers = [victim.answer(part, generator=unused) for part in parts]
    exits = torch.cat([answer.exits for answer in answers])
    if isinstance(victim.network, Guarded) and victim.network.lane is not None:
        exits[exits == victim.network.lane] = victim.num_exits - 1
    strange = torch.cat([_strangeness(victim.network, part) for part in parts])
    return Scores(
        exits,
        strange[:, 0],
        strange.amax(1),
        torch.cat([answer.posteriors.argmax(1) for answer in answers]),
    )


def _strangeness(network: MultiExit, images: Tensor) -> Tensor:
    """Return what guards, or the first exit, make of images, (n, guards) or (n, 1).

    A guard suspects; a fortress's exit is sure of what is not its own; one exit alone is unsure of
    it (the baseline of Hendrycks and Gimpel 2017, arXiv:1610.02136).
    """
    if isinstance(network, Guarded):
        return torch.stack(list(suspicions(network, network.features(images))), 1)
    features = network.run_segment(0, images)
    sure = network.logits(0, features).softmax(1).amax(1, keepdim=True)
    return sure if network.num_exits > 1 else 1 - sure
