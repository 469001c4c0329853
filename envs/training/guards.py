"""Trains the guards of a network, and the lane beside them, or recalls them from the cache."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from envs.data.images import ImageSet, Splits
from envs.errors import ScenarioError
from envs.nets.guarded import Guarded, suspicions
from envs.nets.staged import Staged
from envs.seeding import Streams
from envs.training.checkpoint_file import JSON, Stored
from envs.training.checkpoints import remember
from envs.training.losses import uniform_cross_entropy
from envs.training.ood import SourceSpec, ood_source, source_weights
from envs.training.ood_sources import Draw, Material

_KIND = "guards"
_LEAST_SPREAD = 1e-3  # of a feature, so that a dead one is not blown up
_CHUNK = 1024

NEAR: SourceSpec = (
    "uniform", "smooth", "pixel-shuffle", "patch-shuffle", "mixup", "principal", "spliced",
)  # fmt: skip
"""From far to near: noise, spoilt images, and images nearly like the victim's own."""


@dataclass(frozen=True, slots=True)
class GuardRecipe:
    """How guards are trained.

    Args:
        ood: where OOD images come from.
        steps: of Adam.
        batch: own images per step, and as many OOD ones.
        learning_rate: at the start; it falls along a cosine.
        weight_decay: of Adam.
        noise: standard deviation of what is added to all images, own and OOD. Without it guards
            learn few training images by heart and suspect new ones; on one side alone it is what
            they tell the sides by.
        hidden: units of a guard's hidden layer.
    """

    ood: SourceSpec = NEAR
    steps: int = 600
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    noise: float = 0.04
    hidden: int = 32

    def __post_init__(self) -> None:
        if min(self.steps, self.hidden) < 1 or self.batch < 2:
            raise ScenarioError(
                f"expected steps and hidden units of at least 1 and a batch of at least 2, got "
                f"{self.steps}, {self.hidden} and {self.batch}"
            )

    def key(self) -> dict[str, JSON]:
        """Return everything here as JSON, with what became of `noise` since guards are cached."""
        return {**asdict(self), "ood": dict(source_weights(self.ood)), "noise_on": "all"}


def train_guards(
    backbone: Staged,
    recipe: GuardRecipe,
    *,
    data: Splits,
    streams: Streams,
    victim_key: Mapping[str, JSON],
    load_pool: Callable[..., ImageSet] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Guarded:
    """Put guards and a lane on a backbone and train them, or recall them from the cache.

    Guards learn to tell the victim's own images from OOD ones; the lane to classify its own
    and to be unsure of OOD ones. The backbone stays as it is.

    Args:
        backbone: the undefended victim's; it is copied.
        recipe: how.
        data: only the training split is used.
        streams: of the hardening.
        victim_key: what the backbone was made from; where it is empty nothing is cached.
        load_pool: gives data sets named as sources.
        report: takes a line now and then.

    Raises:
        ScenarioError, UnknownName: a source that does not exist or fit.
    """
    device = data.train.device
    network = Guarded(
        copy.deepcopy(backbone),
        generator=streams.torch("guards/weights", device),
        hidden=recipe.hidden,
    )
    network.freeze_backbone()

    def make() -> Stored:
        chance = streams.torch("guards/ood", device)
        draw = ood_source(recipe.ood, Material(data.train, chance, load_pool))
        _train(network, recipe, data.train, draw, order=streams.torch("guards/order", device))
        report(f"guards: {recipe.steps} steps on {', '.join(source_weights(recipe.ood))}")
        return Stored(network.heads.state_dict())

    if victim_key:
        spec: dict[str, JSON] = {
            "victim": dict(victim_key), "recipe": recipe.key(), "seed": streams.seed
        }  # fmt: skip
        like = network.heads.state_dict()
        stored, _ = remember(_KIND, spec, make, device=device, like=like)
    else:
        stored = make()
    network.heads.load_state_dict(stored.state)
    return network.requires_grad_(False).eval()


def _train(
    network: Guarded, recipe: GuardRecipe, own: ImageSet, draw: Draw, *, order: torch.Generator
) -> None:
    network.train()
    scales = _scales(network, own)
    optimiser = torch.optim.Adam(
        network.heads.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps)
    for _ in range(recipe.steps):
        picked = torch.randint(len(own), (recipe.batch,), generator=order, device=order.device)
        labels = own.labels[picked]
        images = torch.cat([own.images(picked), draw(recipe.batch)])
        jitter = torch.randn(images.shape, generator=order, device=order.device)
        loss = _loss(network, (images + recipe.noise * jitter).clamp(0, 1), labels, scales)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    for e, (mean, spread) in enumerate(scales):
        network.head(e).absorb_standardisation(mean, spread)
    network.eval()


Scales = list[tuple[Tensor, Tensor]]
"""Mean and deviation of what each exit reads."""


@torch.no_grad()
def _scales(network: Guarded, own: ImageSet) -> Scales:
    parts = [network.features(images)[:-1] for images, _ in own.batches(_CHUNK)]
    pooled = [torch.cat(column) for column in zip(*parts, strict=True)]
    return [(each.mean(0), each.std(0).clamp_min(_LEAST_SPREAD)) for each in pooled]


def _loss(network: Guarded, images: Tensor, labels: Tensor, scales: Scales) -> Tensor:
    """Return the loss of a batch whose first images are own ones, with these (n,) labels."""
    with torch.no_grad():
        pooled = network.features(images)
    read = [(each - mean) / spread for each, (mean, spread) in zip(pooled, scales, strict=False)]
    ood = torch.ones(len(images), device=images.device)
    ood[: len(labels)] = 0
    total = pooled[0].new_zeros(())
    for suspicion in suspicions(network, read):
        total = total + F.binary_cross_entropy_with_logits(suspicion, ood)
    if network.lane is not None:
        logits = network.answer(network.lane, read[network.lane])
        total = total + F.cross_entropy(logits[: len(labels)], labels)
        total = total + uniform_cross_entropy(logits[len(labels) :])
    return total
