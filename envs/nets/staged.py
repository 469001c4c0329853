"""A backbone that can stop between its stages, and what every network of the game shares.

A network is a chain of stages and a classifier. An exit head may follow any stage; an
executor that knows only this contract can run a batch stage by stage and drop the images that
have left. Images come in [0, 1]: mean and standard deviation live inside the first stage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from envs.errors import ScenarioError

_TINY = 20


@dataclass(frozen=True, slots=True)
class HeadStyle:
    """How exit heads on a network are made where nobody says otherwise.

    Args:
        relu: put a ReLU between the two layers.
        layer_norm: normalise every place over its channels before pooling.
    """

    relu: bool = True
    layer_norm: bool = False


class Start(Protocol):
    """Weights a network begins with that are not drawn but read from a file."""

    def path(self) -> Path:
        """Find the file; DataMissing where it is not there."""
        ...

    def fill(self, network: nn.Module) -> None:
        """Overwrite the drawn weights of a network that has its memory."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a network is built for: everything but its architecture.

    Args:
        architecture: the registered name.
        num_classes: K.
        image_shape: (channels, height, width).
        mean: per channel, in [0, 1].
        std: per channel, > 0.
        params: what the user asked for beyond the name, for the record.
    """

    architecture: str
    num_classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    params: Mapping[str, object] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.image_shape[0]

    @property
    def size(self) -> int:
        """The shorter side of an image, in pixels."""
        return min(self.image_shape[1:])

    @property
    def tiny(self) -> bool:
        """Whether images have so few pixels (a side below 20) that a stem must not halve them."""
        return self.size < _TINY

    def require_size(self, smallest: int, advice: str) -> None:
        """Refuse images that would shrink to nothing on the way.

        Raises:
            ScenarioError: a side is shorter than `smallest` pixels; `advice` is the way out.
        """
        if self.size < smallest:
            height, width = self.image_shape[1:]
            raise ScenarioError(
                f"network '{self.architecture}' needs images of at least {smallest}x{smallest} "
                f"pixels, got {height}x{width}; {advice}"
            )


class InputNorm(nn.Module):
    """Standardises images by channel, out of place.

    Mean and std are saved with the weights, so a checkpoint answers alike wherever it is loaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self._values = (tuple(mean), tuple(std))
        self.register_buffer("mean", torch.empty(len(mean), 1, 1))
        self.register_buffer("std", torch.empty(len(std), 1, 1))
        self.reset()

    def reset(self) -> None:
        """Write the values it was made with (again)."""
        for buffer, values in zip((self.mean, self.std), self._values, strict=True):
            buffer.copy_(torch.tensor(values).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, c, h, w) in [0, 1] to zero mean and unit variance over the data set."""
        return (images - self.mean) / self.std


class Staged(nn.Module):
    """A classifier made of stages.

    Args:
        plan: classes, image shape, normalisation and name.
        stages: modules in order; the stem belongs to the first one.
        widths: channels after each stage.
        neck: maps the last stage's features to (n, feature width); holds no classifier weight.
        classifier: maps (n, feature width) to (n, K) logits.
        family: "resnet", "mobilenet", "densenet", "vgg", "cnn", "mlp" or another; None, as
            depth and width, where it is not known.
        depth: weighted layers as the field counts them: convolutions and linear layers on the
            longest path, shortcut projections not counted (18 in a ResNet-18).
        width: the family's base width: channels of the first convolution, growth of a DenseNet,
            hidden units of a perceptron, numbers in a transformer's token.
        head_style: of exit heads.

    Attributes:
        stages: `nn.ModuleList`; the first begins with the input normalisation.
        widths: channels after each stage, which is the width of its pooled features.
        start: weights to begin with instead of drawn ones, or None.
        body_frozen: whether stages and neck stay as they are, so that only the classifier learns.
        head_stages: stages after which exit heads come by default.
        stage_names: what stages are called in listings of exits.
        undivided: why an image that leaves after a stage is not spared the further ones; "" where
            it is.
        is_given: whether its weights are given, so that no defence may replace them.
        is_drawable: whether a network of its kind with fresh weights can be built.
    """

    def __init__(
        self,
        plan: Plan,
        stages: Sequence[nn.Module],
        *,
        widths: Sequence[int],
        neck: nn.Module,
        classifier: nn.Module,
        family: str | None,
        depth: int | None,
        width: int | None,
        head_style: HeadStyle = HeadStyle(),
    ) -> None:
        super().__init__()
        first = nn.Sequential(InputNorm(plan.mean, plan.std), stages[0])
        self.stages = nn.ModuleList([first, *stages[1:]])
        self.neck, self.classifier = neck, classifier
        self.plan = plan
        self.widths = tuple(widths)
        self.num_classes, self.image_shape = plan.num_classes, plan.image_shape
        self.architecture, self.params = plan.architecture, dict(plan.params)
        self.family, self.depth, self.width = family, depth, width
        self.head_style = head_style
        self.start: Start | None = None
        self.body_frozen = False
        self.head_stages = tuple(range(len(self.stages)))
        self.stage_names = tuple(f"stage {number + 1}" for number in self.head_stages)
        self.undivided, self.is_given, self.is_drawable = "", False, True

    def freeze_body(self) -> None:
        """Let nothing but the classifier learn: a linear probe of what the body knows.

        The body also stays in eval mode whatever `train` is told, so that batch statistics and
        dropout stand still.
        """
        self.stages.requires_grad_(False)
        self.neck.requires_grad_(False)
        self.body_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen body stays in eval mode."""
        super().train(mode)
        if self.body_frozen:
            self.stages.eval()
            self.neck.eval()
        return self

    def fill_layer(self, layer: nn.Module, generator: torch.Generator) -> bool:
        """Draw a layer's own starting weights by a rule of this network.

        Returns:
            Whether there is such a rule; the usual ones hold otherwise.
        """
        return False

    def pool(self, features: Tensor, stage: int = 0) -> Tensor:
        """Average what a stage, counted from 0, left over all places: (n, width)."""
        if features.ndim == 4:
            return features.mean((2, 3))
        # (n, tokens, width), or (n, width) as it is
        return features.mean(1) if features.ndim == 3 else features

    def embed(self, last_features: Tensor) -> Tensor:
        """Return the classifier's input, (n, feature width), from the last stage's features."""
        embedded: Tensor = self.neck(last_features)
        return embedded

    def classify(self, last_features: Tensor) -> Tensor:
        """Return (n, K) logits from the last stage's features (not pooled)."""
        logits: Tensor = self.classifier(self.embed(last_features))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, K) logits of (n, c, h, w) images in [0, 1]."""
        features = images
        for stage in self.stages:
            features = stage(features)
        return self.classify(features)


class GlobalPool(nn.Module):
    """Averages a map over its places: (n, c, h, w) to (n, c)."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the mean over height and width."""
        return features.mean((2, 3))


def scaled(channels: int, factor: float) -> int:
    """Scale a channel count, at least 1.

    Raises:
        ScenarioError: the factor is not above 0.
    """
    if not factor > 0:
        raise ScenarioError(f"a network's width factor must be above 0, got {factor}")
    return max(1, round(channels * factor))
