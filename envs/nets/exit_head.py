"""The head of an exit: two linear layers on the pooled features of a stage."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from envs.nets.init import materialise

LOG_VARIANCE_RANGE = (-8.0, 2.0)
_LOG_VARIANCE_START = -3.0


class ExitHead(nn.Module):
    """Two linear layers on the pooled features of a stage, with a code between them.

    The code is what an information-bottleneck objective limits. In a stochastic head it is a
    Gaussian while training, its mean when serving; a stochastic and a deterministic head of the
    same weights serve the same answers.

    Args:
        width: channels of the stage.
        num_classes: K.
        generator: where the weights come from; the head lands on its device. Without one the
            head is an outline on the meta device.
        hidden: numbers in a code; 10 K if not given.
        stochastic: add the linear layer for the code's log-variance.
        relu: put a ReLU before the second layer; the released heads for ResNet-50 have none.
        layer_norm: normalise every place over its channels before pooling, with a weight and
            a bias per channel, as heads on transformers do.

    Source:
        Luan et al. 2025, Dynamic Neural Fortresses; Alemi et al. 2017, arXiv:1612.00410.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        generator: torch.Generator | None = None,
        hidden: int | None = None,
        stochastic: bool = False,
        relu: bool = True,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        size = 10 * num_classes if hidden is None else hidden
        self.width, self.num_classes, self.hidden = width, num_classes, size
        self.stochastic, self.relu, self.layer_norm = stochastic, relu, layer_norm
        with torch.device("meta"):
            self.affine = ChannelAffine(width) if layer_norm else nn.Identity()
            self.mean = nn.Linear(width, size)
            self.answer = nn.Linear(size, num_classes)
            # last, so that a deterministic head of the same seed has the same weights
            self.log_variance = nn.Linear(width, size) if stochastic else None
        if generator is not None:
            self.reset(generator)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew, as at the start; the head lands on the generator's device."""
        materialise(self, generator=generator)
        if self.log_variance is not None:
            nn.init.constant_(self.log_variance.bias, _LOG_VARIANCE_START)

    def code_mean(self, pooled: Tensor) -> Tensor:
        """Return the mean of the codes, (n, hidden), of pooled features (n, width)."""
        mean: Tensor = self.mean(self.affine(pooled))
        return mean

    def code(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the codes, each (n, hidden).

        The log-variance is a natural logarithm, clamped to [-8, 2].

        Raises:
            ValueError: the head is deterministic.
        """
        if self.log_variance is None:
            raise ValueError(
                "this head's code has no variance; build it with stochastic=True, "
                "or ask for code_mean"
            )
        affine = self.affine(pooled)
        return self.mean(affine), self.log_variance(affine).clamp(*LOG_VARIANCE_RANGE)

    def answer_code(self, z: Tensor) -> Tensor:
        """Return (n, K) logits of codes (n, hidden)."""
        logits: Tensor = self.answer(F.relu(z) if self.relu else z)
        return logits

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the served (n, K) logits of pooled features (n, width)."""
        return self.answer_code(self.code_mean(pooled))

    @torch.no_grad()
    def absorb_standardisation(self, mean: Tensor, spread: Tensor) -> None:
        """Change the weights, in place, to read raw features where they read standardised ones.

        Afterwards `head(pooled)` returns what `head((pooled - mean) / spread)` returned before.

        Args:
            mean: (width,) subtracted from the features.
            spread: (width,) positive, divides them.
        """
        if isinstance(self.affine, ChannelAffine):
            # it stands before the linear layers, which read its output and stay as they are
            self.affine.weight.div_(spread)
            self.affine.bias.sub_(self.affine.weight * mean)
            return
        for layer in (self.mean, self.log_variance):
            if layer is not None:
                layer.weight.div_(spread)
                layer.bias.sub_(layer.weight @ mean)

    def served_parameters(self) -> list[nn.Parameter]:
        """Return the weights that serving reads: all but the log-variance."""
        unread = set() if self.log_variance is None else set(self.log_variance.parameters())
        return [weights for weights in self.parameters() if weights not in unread]


class ChannelAffine(nn.LayerNorm):
    """The weight and bias of a layer normalisation, without its normalisation.

    Pooling is linear, so they may act after it; what comes before has no weights then and can be
    cached once for a frozen backbone.
    """

    def forward(self, pooled: Tensor) -> Tensor:
        """Scale and shift (n, width)."""
        return pooled * self.weight + self.bias
