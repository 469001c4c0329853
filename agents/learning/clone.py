"""How a clone learns from a victim's answers.

Each disagreement takes the clone's raw logits and the served targets and gives one number per
image; its mean is the clone's loss, and its negative is what a generator descends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.errors import ScenarioError
from envs.types import Labels

FLOOR = 1e-12
"""Least posterior before a logarithm; a probability interface may serve exact zeros."""

Loss = Literal["auto", "l1", "kl", "cross-entropy", "argmax"]
Disagreement = Callable[[Tensor, Tensor], Tensor]


def recover_logits(posteriors: Tensor) -> Tensor:
    """Recover a victim's logits from its posteriors, up to the shift that softmax forgets.

    v_k = log p_k - (1/K) sum_j log p_j, which equals the victim's mean-centred logits. Of answers
    that were cut or rounded to zeros it is far from them, so that "kl" is the better loss there.

    Args:
        posteriors: (n, K) on the simplex; below 1e-12 they count as 1e-12.

    Returns:
        (n, K) of the same dtype; rows sum to 0.

    Source:
        Truong et al. 2021 (DFME), arXiv:2011.14779, section 4.3.
    """
    logs = posteriors.clamp_min(FLOOR).log()
    return logs - logs.mean(1, keepdim=True)


def l1_on_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Measure (n,) mean absolute distances of (n, K) logits from the recovered ones."""
    return (logits - recover_logits(targets)).abs().mean(1)


def kl_divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Measure (n,) divergences KL(targets || softmax(logits)) in nats."""
    logs = targets.clamp_min(FLOOR).log()
    return (targets * (logs - logits.log_softmax(1))).sum(1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Measure (n,) cross-entropies in nats; on one-hot targets the usual one of labels."""
    return F.cross_entropy(logits, targets, reduction="none")


def cross_entropy_of_argmax(logits: Tensor, targets: Tensor) -> Tensor:
    """Measure (n,) cross-entropies of the most likely label: soft answers used as hard ones."""
    return F.cross_entropy(logits, targets.argmax(1), reduction="none")


_DISAGREEMENTS: dict[str, Disagreement] = {
    "l1": l1_on_logits,
    "kl": kl_divergence,
    "cross-entropy": cross_entropy,
    "argmax": cross_entropy_of_argmax,
}


def disagreement_for(loss: Loss, labels: Labels) -> Disagreement:
    """Return a disagreement by name; "auto" fits the labels that are served.

    Recovered logits need posteriors, so that "auto" is "l1" on soft labels and "cross-entropy"
    on hard ones.

    Raises:
        ScenarioError: no disagreement of that name.
    """
    if loss == "auto":
        return l1_on_logits if labels == "soft" else cross_entropy
    if loss not in _DISAGREEMENTS:
        raise ScenarioError(
            f"no clone loss '{loss}'; known: {', '.join(['auto', *sorted(_DISAGREEMENTS)])}"
        )
    return _DISAGREEMENTS[loss]


class CloneTrainer:
    """Trains a clone by SGD, one batch of answers at a time.

    Args:
        clone: maps (n, c, h, w) in [0, 1] to (n, K) logits.
        disagreement: its mean over the batch is the loss.
        rate, momentum, weight_decay: of SGD.
        generator: of the player, on the clone's device; dropout draws from it. Without one dropout
            draws from the process, and no game with it is played twice.
    """

    _generator: torch.Generator | None = None

    def __init__(
        self,
        clone: nn.Module,
        disagreement: Disagreement,
        *,
        rate: float,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        generator: torch.Generator | None = None,
    ) -> None:
        self.clone, self.disagreement = clone, disagreement
        self._generator = generator
        parameters = [weights for weights in clone.parameters() if weights.requires_grad]
        self.optimizer = torch.optim.SGD(
            parameters,
            lr=rate,
            momentum=momentum,
            weight_decay=weight_decay,
            fused=can_fuse(parameters),
        )

    def step(self, images: Tensor, targets: Tensor) -> Tensor:
        """Take one step on a batch of answers; returns the loss, 0-d and detached.

        A single image has no batch statistics, so that the clone learns from it with those it
        has already gathered.
        """

        def loss() -> Tensor:
            return self.disagreement(self.clone(images), targets).mean()

        return self.descend(loss, count=len(images))

    def descend(self, loss: Callable[[], Tensor], *, count: int) -> Tensor:
        """Take one step on another loss of the clone.

        Args:
            loss: runs the clone in training mode on the step's images; 0-d. It draws nothing from
                the trainer's generator itself, see `own_chance`.
            count: of those images.

        Returns:
            The loss, 0-d and detached.
        """
        self.clone.train(count > 1)
        with nullcontext() if self._generator is None else own_chance(self._generator):
            value = loss()
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()
        return value.detach()


@contextmanager
def own_chance(generator: torch.Generator) -> Iterator[None]:
    """Let dropout draw from a player's generator for a while.

    Dropout layers take no generator: they draw from the one of their device that all share. Inside
    this stands where the player's does, which goes on where it stood at the end. A network
    without chance draws nothing and moves neither. Nothing else may draw from `generator` inside.

    Args:
        generator: on the device of the network.
    """
    shared = _shared_generator(generator.device)
    before = shared.get_state()
    shared.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(shared.get_state())
        shared.set_state(before)


def _shared_generator(device: torch.device) -> torch.Generator:
    if device.type != "cuda":
        return torch.default_generator
    here = torch.cuda.current_device() if device.index is None else device.index
    shared: torch.Generator = torch.cuda.default_generators[here]
    return shared


def can_fuse(parameters: list[nn.Parameter]) -> bool:
    """Tell whether torch's optimisers can update these parameters in one kernel."""
    devices = {weights.device.type for weights in parameters}
    return devices <= {"cpu", "cuda"} and all(p.is_floating_point() for p in parameters)
