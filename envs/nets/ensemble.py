"""Several networks that answer as one: the mean of their posteriors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from envs.nets.staged import Plan, Staged

_LEAST = 1e-30  # below any probability that float32 tells from 0


class SoftVote(nn.Module):
    """Averages the posteriors of networks, and gives the logarithm of that as logits.

    The softmax of these logits is the mean itself; a softmax of the mean would flatten it.

    Args:
        members: each maps (n, c, h, w) images to (n, K) logits.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, K) logits."""
        answers = torch.stack([member(images).softmax(1) for member in self.members])
        return answers.mean(0).clamp_min(_LEAST).log()


class Ensemble(Staged):
    """A classifier of one stage that holds whole networks, each with its own normalisation.

    It has no places for exit heads.

    Args:
        plan: of the victim that it stands for, so that networks like that can still be built.
        members: answer together.
    """

    def __init__(self, plan: Plan, members: Sequence[Staged]) -> None:
        vote = SoftVote(members)
        super().__init__(
            plan,
            [vote],
            widths=(plan.num_classes,),
            neck=nn.Identity(),
            classifier=nn.Identity(),
            family=None,
            depth=None,
            width=None,
        )
        self.stages = nn.ModuleList([vote])  # members normalise images themselves
        self.architecture = "ensemble"
        self.head_stages = ()
        self.undivided = "an ensemble answers as a whole"
