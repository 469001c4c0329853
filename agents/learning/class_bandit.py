"""A gradient bandit over classes of a pool, and what an answer is worth to a model thief.

Source:
    Orekondy et al. 2019, Knockoff nets, CVPR, arXiv:1812.02766, section 4.1.2.
"""

import torch
from torch import Tensor

_LEAST_SPREAD = 1e-8


def rewards(targets: Tensor, mean: Tensor, losses: Tensor) -> Tensor:
    """Measure what answers are worth.

    Args:
        targets: (n, K) answers.
        mean: (K,) mean answer so far.
        losses: (n,) losses of the clone on them.

    Returns:
        (3, n): certainty (most likely minus second), diversity (sum of what exceeds the mean
        answer) and the clone's loss.
    """
    top = targets.topk(2, 1).values
    certainty = top[:, 0] - top[:, 1]
    novelty = (targets - mean).clamp_min(0).sum(1)
    return torch.stack([certainty, novelty, losses])


class ClassBandit:
    """Prefers the classes whose answers were worth more than usual.

    Args:
        actions: classes to choose from.
        generator: draws the choices.

    Notes:
        The learning rate of a class is one over how often it was drawn. All choices of a request
        are drawn from one policy; their updates add up.
    """

    def __init__(self, actions: int, generator: torch.Generator) -> None:
        self._generator = generator
        self.preferences = torch.zeros(actions, device=generator.device)
        self._drawn = torch.zeros(actions, device=generator.device)
        self._low = torch.full((3, 1), float("inf"), device=generator.device)
        self._high = -self._low
        self._baseline = torch.zeros((), device=generator.device)
        self._requests = 0

    @property
    def policy(self) -> Tensor:
        """The (actions,) probabilities of being drawn."""
        return self.preferences.softmax(0)

    def draw(self, count: int) -> Tensor:
        """Draw (count,) actions."""
        return torch.multinomial(self.policy, count, replacement=True, generator=self._generator)

    def learn(self, actions: Tensor, worth: Tensor) -> None:
        """Update the preferences.

        Args:
            actions: (n,) as drawn.
            worth: (3, n), see `rewards`; rescaled to [0, 1] by the extremes so far.
        """
        worth = worth.to(self.preferences.device)
        self._low = torch.minimum(self._low, worth.amin(1, keepdim=True))
        self._high = torch.maximum(self._high, worth.amax(1, keepdim=True))
        scaled = (worth - self._low) / (self._high - self._low).clamp_min(_LEAST_SPREAD)
        reward = scaled.mean(0)
        self._requests += 1
        self._baseline += (reward.mean() - self._baseline) / self._requests
        self._drawn += torch.bincount(actions, minlength=len(self._drawn))
        gain = (reward - self._baseline) / self._drawn[actions]
        chosen = torch.zeros_like(self.preferences).index_add(0, actions, gain)
        # H(z) += gain (1 - pi(z)), H(z') -= gain pi(z')
        self.preferences = self.preferences + (chosen - gain.sum() * self.policy)
