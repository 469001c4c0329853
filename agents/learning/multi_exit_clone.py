"""A clone with exits and gates: it copies answers and where they leave."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.staged import Staged


class Gated(nn.Module):
    """A multi-exit network whose gates predict where each image leaves.

    A gate looks at the pooled features of its exit and gives the probability of leaving there,
    if one has come so far. As a classifier it answers with the exit its gates choose.

    Args:
        backbone: any staged network.
        exits: exits to copy, the last one included, at least 1; at most one more than stages.
        generator: weights of heads and gates.
    """

    def __init__(self, backbone: Staged, exits: int, *, generator: torch.Generator) -> None:
        super().__init__()
        count = min(exits, len(backbone.stages) + 1)
        # spread evenly over the stages: where the victim's heads are is not known
        step = (len(backbone.stages) + 1) / count
        stages = [int((e + 1) * step + 0.5) - 1 for e in range(count - 1)]
        self.network: MultiExit = with_heads(backbone, generator=generator, exits=stages)
        self.gates = nn.ModuleList(
            nn.Linear(backbone.widths[stage], 1, device="meta") for stage in stages
        )
        for gate in self.gates:
            gate.to_empty(device=generator.device)
            assert isinstance(gate, nn.Linear)
            # an undecided gate: training starts where nothing is known
            nn.init.zeros_(gate.weight)
            nn.init.zeros_(gate.bias)

    @property
    def num_exits(self) -> int:
        """Exits, the last one included."""
        return len(self.gates) + 1

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (exits, n, K) logits and the (n, exits) log-probabilities of leaving."""
        pooled = self.network.features(images)
        logits = torch.stack([self.network.answer(e, part) for e, part in enumerate(pooled)])
        stays = torch.zeros(images.shape[0], device=images.device)
        logs = []
        for gate, part in zip(self.gates, pooled, strict=False):
            score = gate(part).squeeze(1)
            logs.append(stays + F.logsigmoid(score))
            stays = stays + F.logsigmoid(-score)
        return logits, torch.stack([*logs, stays], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the (n, K) logits of the exit each image is predicted to leave at."""
        logits, leaving = self.both(images)
        chosen = leaving.argmax(1)
        picked = chosen[None, :, None].expand(1, -1, logits.shape[2])
        return logits.gather(0, picked)[0]
