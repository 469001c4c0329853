"""Networks a defence keeps beside the victim: a model of the attacker's, a detector, a liar.

Each has the victim's architecture. What is trained is kept in the cache of trained weights,
addressed by the victim's weights and by the images it is trained on.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from envs.data.images import ImageSet, to_pixels
from envs.defences.harden_kit import HardenKit
from envs.defences.needs import Need
from envs.errors import ScenarioError
from envs.nets import registry
from envs.nets.adapter_stages import with_places
from envs.nets.exit_cost import backbone_macs
from envs.nets.multi_exit import MultiExit
from envs.nets.network_adapter import OwnNetwork
from envs.nets.staged import Staged
from envs.training.checkpoint_file import JSON, Stored
from envs.training.checkpoints import remember
from envs.training.loop import fit
from envs.training.ood import ood_source
from envs.training.ood_sources import Material
from envs.training.recipes import Recipe, recipe_for
from envs.victim.chunk_size import chunks_for
from envs.victim.victim import Victim

OWN_DATA = "own"
"""Stands for the victim's own training images where a source of images is asked for."""

Origin = Literal["untrained", "trained", "small"]
_SMALL = "mlp-small"
_DRAWN_AT_ONCE = 64  # an untrained generator's images look alike: few from each
_ANSWERED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class SurrogatePlan:
    """How a model of the attacker's network comes about.

    The queries of a data-free attack are not known before the game, so that a defender distils on
    images it really has.

    Args:
        origin: "untrained" draws weights; "trained" distils the victim as an attacker would;
            "small" draws weights of a perceptron of two hidden layers instead of the victim's
            architecture, at a few hundredths of its cost or less.
        data: images to distil on: "own" (the victim's training images), or a source of images,
            by default outputs of image generators that nobody has trained.
        epochs: epochs that are run.
        schedule: epochs that the learning rate is scheduled for.

    Raises:
        ValueError: a value outside its range.
    """

    origin: Origin = "trained"
    data: str = "generator"
    epochs: int = 10
    schedule: int = 50

    def __post_init__(self) -> None:
        if self.origin not in get_args(Origin):
            raise ValueError(
                f"expected surrogate 'untrained', 'trained' or 'small', got {self.origin!r}"
            )
        if not 1 <= self.epochs <= self.schedule:
            raise ValueError(
                f"expected 1 to {self.schedule} epochs of the surrogate's schedule, "
                f"got {self.epochs}"
            )

    @property
    def needs(self) -> frozenset[Need]:
        """A network like the victim, unless it has an architecture of its own."""
        return frozenset() if self.origin == "small" else frozenset({"another of its kind"})

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The source that is distilled on, if it is not the victim's own images."""
        return (self.data,) if self.origin == "trained" and self.data != OWN_DATA else ()


class Surrogate:
    """A frozen network in evaluation mode.

    Attributes:
        network: maps images to logits.
        macs: multiply-accumulates of one forward pass of one image.
    """

    def __init__(self, network: Staged) -> None:
        self.network = network.requires_grad_(False).eval()
        self.macs = backbone_macs(network)[-1]
        self._chunk = min(chunks_for(MultiExit(network, ())))

    def parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """Split images into what runs together: on a CPU, what its cache holds."""
        return torch.split(images, self._chunk if images.device.type == "cpu" else len(images))

    @torch.no_grad()
    def posteriors(self, images: Tensor) -> Tensor:
        """Return (n, K) float64 posteriors of (n, c, h, w) images."""
        logits = torch.cat([self.network(part) for part in self.parts(images)])
        return logits.double().softmax(1)


def make_surrogate(victim: Victim, kit: HardenKit, plan: SurrogatePlan) -> Surrogate:
    """Build a model of the attacker's network by plan, or recall it."""
    weights = kit.streams.torch("surrogate/weights", victim.device)
    if plan.origin == "small":
        return Surrogate(like_victim(victim, weights, architecture=_SMALL))
    if plan.origin == "untrained":
        return Surrogate(like_victim(victim, weights, drawn=True))
    network = like_victim(victim, weights)
    pixels = query_images(plan.data, kit, victim.device)
    recipe = recipe_for(victim.image_shape).with_changes(epochs=plan.schedule)
    spec: dict[str, JSON] = {
        "surrogate": asdict(plan),
        "images": digest({"pixels": pixels}),
        "recipe": recipe.key(),
    }

    def train(fresh: nn.Module) -> None:
        targets = victim_answers(victim, pixels)
        generator = kit.streams.torch("surrogate/training", victim.device)
        fit_partly(fresh, pixels, targets, recipe, epochs=plan.epochs, generator=generator)

    return Surrogate(remembered("surrogate", spec, network, train, victim=victim, kit=kit))


def like_victim(
    victim: Victim,
    generator: torch.Generator,
    *,
    architecture: str | None = None,
    drawn: bool = False,
) -> Staged:
    """Build a network like the victim with fresh weights, on the generator's device.

    Args:
        victim: gives classes, image shape and normalisation; where it starts from published
            weights, the network does so too.
        generator: where the other weights come from.
        architecture: another one than the victim's, with its default parameters.
        drawn: draw all weights, whatever the victim started from.
    """
    backbone = victim.network.backbone
    plan = backbone.plan
    params = {name: value for name, value in plan.params.items() if name != "weights" or not drawn}
    network = registry.build(
        architecture or plan.architecture,
        num_classes=plan.num_classes,
        image_shape=plan.image_shape,
        generator=generator,
        mean=plan.mean,
        std=plan.std,
        **({} if architecture else params),
    )
    if not isinstance(network, OwnNetwork) or not backbone.head_stages:
        return network
    return with_places(network, [backbone.stage_names[stage] for stage in backbone.head_stages])


def require_network(name: str) -> str:
    """Return the name of a network that a defence builds; UnknownName where there is none."""
    if not registry.is_own(name):
        registry.describe(name)
    return name


def begin_as(network: Staged, victim: Victim, *, name: str) -> None:
    """Give a network the victim's weights to begin with.

    Args:
        network: as `like_victim` built it.
        victim: whose weights are copied.
        name: of the defence, for the message.

    Raises:
        ScenarioError: the victim is none of its kind: a defence before has put others in its place.
    """
    backbone = victim.network.backbone
    if backbone.architecture != network.architecture:
        raise ScenarioError(
            f"{name} trains the victim's own weights further, and an {backbone.architecture} "
            f"stands in its place; put {name} first, or leave out one of the two"
        )
    network.load_state_dict(backbone.state_dict())


def remembered(
    kind: str,
    spec: Mapping[str, JSON],
    network: Staged,
    train: Callable[[Staged], None],
    *,
    victim: Victim,
    kit: HardenKit,
) -> Staged:
    """Train a network, or load what was trained from the same things before.

    Args:
        kind: the store of the cache.
        spec: everything that bears on the result beyond the victim, the data and the streams.
        network: with its starting weights; it is trained in place.
        train: trains it.
        victim: whose weights bear on the result.
        kit: whose data and streams do.
    """
    full: dict[str, JSON] = {
        **({"sources": dict(kit.sources)} if kit.sources else {}),
        **spec,
        "victim": digest(victim.network.state_dict()),
        "data": kit.data.fingerprint,
        "seed": kit.streams.seed,
        "network": [network.architecture, *network.image_shape, network.num_classes],
        "params": {name: str(value) for name, value in network.params.items()},
    }

    def make() -> Stored:
        kit.report(f"training: {kind}")
        train(network)
        return Stored(network.state_dict())

    stored, _ = remember(kind, full, make, device=victim.device, like=network.state_dict())
    network.load_state_dict(stored.state)
    return network


def query_images(source: str, kit: HardenKit, device: torch.device) -> Tensor:
    """Return images to ask a victim, as many as it was trained on; (n, c, h, w) uint8.

    Raises:
        UnknownName: neither "own", nor a built-in source, nor a data set.
    """
    train: ImageSet = kit.data.train.to(device)
    if source == OWN_DATA:
        return train.pixels
    generator = kit.streams.torch("surrogate/images", device)
    draw = ood_source(source, Material(train, generator, kit.load_pool))
    counts = [_DRAWN_AT_ONCE] * (len(train) // _DRAWN_AT_ONCE)
    if rest := len(train) % _DRAWN_AT_ONCE:
        counts.append(rest)
    return torch.cat([to_pixels(draw(count)) for count in counts])


def victim_answers(victim: Victim, pixels: Tensor) -> Tensor:
    """Ask the undefended victim about (n, c, h, w) uint8 images; (n, K) float32 posteriors."""
    with torch.no_grad():
        parts = [victim.posteriors(part.float() / 255) for part in pixels.split(_ANSWERED_AT_ONCE)]
    return torch.cat(parts)


class _EnoughEpochs(Exception):  # noqa: N818 - not a fault
    """Leaves a training before its schedule ends."""


def fit_partly(
    network: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    recipe: Recipe,
    *,
    epochs: int,
    generator: torch.Generator,
) -> None:
    """Train for the first epochs of a recipe's schedule only.

    The published surrogate runs 10 epochs of a cosine over 50, so that the rate never gets small.
    """

    def stop(epoch: int, loss: float) -> None:
        if epoch >= epochs:
            raise _EnoughEpochs

    with suppress(_EnoughEpochs):
        fit(network, pixels, targets, recipe, generator=generator, on_epoch=stop)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Digest named tensors, shapes and dtypes included, to 32 hexadecimal digits."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    return total.hexdigest()[:32]
