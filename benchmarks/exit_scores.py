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
        labels: (n,) int64, as served.
    """

    exits: Tensor
    first: Tensor
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


@torch.no_grad()
def scores(victim: Victim, images: Tensor) -> Scores:
    """Ask a fortress, and look at its first exit."""
    parts, unused = images.split(_BATCH), torch.Generator(images.device)
    answers = [victim.answer(part, generator=unused) for part in parts]
    exits = torch.cat([answer.exits for answer in answers])
    if isinstance(victim.network, Guarded) and victim.network.lane is not None:
        exits[exits == victim.network.lane] = victim.num_exits - 1
    return Scores(
        exits,
        torch.cat([_strangeness(victim.network, part) for part in parts]),
        torch.cat([answer.posteriors.argmax(1) for answer in answers]),
    )


def _strangeness(network: MultiExit, images: Tensor) -> Tensor:
    """Return the first exit's confidence: the fortress's exits are sure of what is not its own."""
    if isinstance(network, Guarded):
        return suspicions(network, network.features(images))[0]
    features = network.run_segment(0, images)
    return network.logits(0, features).softmax(1).amax(1)
