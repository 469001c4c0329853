"""Places for exit heads on a network of others: stages that end at the layers its author names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from envs.errors import ScenarioError
from envs.nets.cutting import NotCuttableError, cut, read_layers, require_layers
from envs.nets.network_adapter import AsLogits, OwnNetwork, noise, run
from envs.nets.staged import Staged

_AGREEMENT = 1e-4


def with_places(whole: OwnNetwork, names: Sequence[str]) -> Staged:
    """Give a network of others places for exit heads behind some of its layers.

    Args:
        whole: the network.
        names: of layers, in the order in which it runs them.

    Returns:
        The network in stages that share its layers. Where it cannot be cut so, one that runs as a
        whole and keeps what the layers left; its `undivided` is the reason.

    Raises:
        ScenarioError: it has no such layer, or one whose output no head can read.
    """
    adapted = whole.adapted
    try:
        pieces = cut(adapted, names)
        divided = Divided(whole, pieces.stages, names, pieces.neck, pieces.classifier)
        if not _agree(whole, divided):
            raise NotCuttableError("its answers would change")
        return divided
    except NotCuttableError as reason:
        require_layers(adapted.body, names)
        return Undivided(whole, names, str(reason))


class Divided(Staged):
    """A network of others in stages that run one after another.

    Args:
        whole: the network before it was cut.
        stages: one for each name, and maybe one behind them.
        names: of the layers at which stages end.
        neck: see `Staged`.
        classifier: likewise.

    Raises:
        ScenarioError: a layer gives something that no head can read.
    """

    def __init__(
        self,
        whole: OwnNetwork,
        stages: Sequence[nn.Module],
        names: Sequence[str],
        neck: nn.Module,
        classifier: nn.Module,
    ) -> None:
        labels = (*names, "the rest")[: len(stages)]
        widths, embedded = _widths(whole, stages, labels, neck)
        if embedded.ndim != 2:  # the linear layer stands before a pooling
            neck, classifier = nn.Sequential(neck, classifier), nn.Identity()
        super().__init__(
            whole.plan,
            stages,
            widths=widths,
            neck=neck,
            classifier=classifier,
            family=whole.family,
            depth=whole.depth,
            width=whole.width,
        )
        _take_over(self, whole, labels)
        self.head_stages = tuple(range(len(names)))


class Undivided(Staged):
    """A network of others that computes everything in its first stage.

    What leaves a stage holds, for each layer, its output averaged over all places, and the logits
    behind them: (n, sum of the widths + K). So nothing is spared where an image leaves early.

    Args:
        whole: the network.
        names: of modules.
        reason: why it cannot be cut.

    Raises:
        ScenarioError: a module gives something that no head can read.
    """

    def __init__(self, whole: OwnNetwork, names: Sequence[str], reason: str) -> None:
        was_training = whole.training
        everything = _AllAtOnce(whole.adapted.eval(), names)
        with torch.no_grad():  # and in evaluation mode, where statistics stay as they are
            widths, _ = read_layers(everything.body.body, names, noise(whole), _width)
        whole.train(was_training)
        super().__init__(
            whole.plan,
            [everything, *(nn.Identity() for _ in names[1:])],
            widths=widths,
            neck=_Last(whole.num_classes),
            classifier=nn.Identity(),
            family=whole.family,
            depth=whole.depth,
            width=whole.width,
        )
        _take_over(self, whole, names)
        self.undivided = reason

    def pool(self, features: Tensor, stage: int = 0) -> Tensor:
        """Return what the layer of a stage left: (n, width)."""
        start = sum(self.widths[:stage])
        return features[:, start : start + self.widths[stage]]


class _AllAtOnce(nn.Module):
    """Runs a network; returns what some modules left, pooled, and its logits behind each other."""

    def __init__(self, body: AsLogits, names: Sequence[str]) -> None:
        super().__init__()
        self.body, self.names = body, [f"body.{name}" for name in names]

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, sum of the widths + K)."""
        outputs, logits = read_layers(self.body, self.names, images, _pooled)
        return torch.cat([*outputs, logits], 1)


class _Last(nn.Module):
    """Takes the last columns."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, w) to (n, count)."""
        return features[:, -self.count :]


@torch.no_grad()
def _agree(one: Staged, other: Staged) -> bool:
    images = noise(one)
    expected, got = run(one, images), run(other, images)
    assert isinstance(expected, Tensor)
    assert isinstance(got, Tensor)
    return bool(((got - expected).abs() <= _AGREEMENT * (1 + expected.abs().amax())).all())


@torch.no_grad()
def _widths(
    whole: OwnNetwork, stages: Sequence[nn.Module], labels: Sequence[str], neck: nn.Module
) -> tuple[list[int], Tensor]:
    """Return the width of what each stage leaves, and the classifier's input."""
    first = whole.stages[0]
    assert isinstance(first, nn.Sequential)
    features, widths = first[0](noise(whole)), []
    for stage, label in zip(stages, labels, strict=True):
        features = stage.eval()(features)
        widths.append(_width(label, features))
    return widths, neck.eval()(features)


def _width(name: str, output: object) -> int:
    """Return the channels of what a layer leaves."""
    if not isinstance(output, Tensor) or not 2 <= output.ndim <= 4:
        got = type(output).__name__
        if isinstance(output, Tensor):
            got = f"a tensor of shape {tuple(output.shape)}"
        raise ScenarioError(
            f"exits: behind '{name}' a head expects (n, c, h, w), (n, tokens, width) or (n, width),"
            f" got {got}"
        )
    if output.ndim == 4 and output.shape[1] == output.shape[2] != output.shape[3]:
        raise ScenarioError(
            f"exits: '{name}' leaves {tuple(output.shape)}, which has its channels last; name a "
            f"layer that leaves (n, c, h, w)"
        )
    return output.shape[2 if output.ndim == 3 else 1]


def _pooled(name: str, features: Tensor) -> Tensor:
    if features.ndim == 4:
        return features.mean((2, 3))
    return features.mean(1) if features.ndim == 3 else features


def _take_over(network: Staged, whole: OwnNetwork, labels: Sequence[str]) -> None:
    """Give a network in stages what is known of the whole one."""
    network.architecture, network.is_drawable = whole.architecture, whole.is_drawable
    network.stage_names, network.is_given = tuple(labels), whole.is_given
    network.to(next(whole.buffers()).device).train(whole.training)
