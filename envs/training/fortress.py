"""Trains the exits of a Dynamic Neural Fortress by a recipe, or recalls them from the cache."""

import copy
from collections.abc import Callable, Mapping

import torch

from envs.data.images import ImageSet, Splits
from envs.errors import ScenarioError
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.staged import Staged
from envs.seeding import Streams
from envs.training.checkpoint_file import JSON, Stored
from envs.training.checkpoints import remember
from envs.training.exit_training import ExitRecipe, train_exits
from envs.training.fortress_recipe import FortressRecipe
from envs.training.objective import BoundObjective, Objective, ReleasedObjective, Weights
from envs.training.ood import FixedBatch, ood_source
from envs.training.ood_sources import Draw, Material

_KIND = "exit-heads"


def train_fortress(
    backbone: Staged,
    recipe: FortressRecipe,
    *,
    data: Splits,
    streams: Streams,
    victim_key: Mapping[str, JSON],
    load_pool: Callable[..., ImageSet] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> MultiExit:
    """Put exits on a backbone and train them, or recall them from the cache.

    Each consumer of chance has its own stream, so that a term switched off shifts no other.

    Args:
        backbone: the undefended victim's; it is copied.
        recipe: how.
        data: only the training split is used.
        streams: of the hardening.
        victim_key: what the backbone was made from; where it is empty nothing is cached.
        load_pool: gives data sets named as sources.
        report: takes a line now and then.

    Raises:
        ScenarioError, UnknownName: a switch that does not fit this network or data.
    """
    device = data.train.device
    network = _with_new_heads(backbone, recipe, streams.torch("exits/weights", device))
    recipe.alphas(network.num_exits)
    part = network if recipe.backbone != "frozen" else network.heads

    def make() -> Stored:
        draw = ood_draws(recipe, data.train, streams.torch("exits/ood", device), load_pool)
        train_exits(
            network,
            _objective(network, recipe, streams, device),
            _exit_recipe(recipe, len(data.train)),
            data=data.train,
            draw=draw,
            order=streams.torch("exits/order", device),
            report=report,
        )
        return Stored(part.state_dict())

    if victim_key:
        spec: dict[str, JSON] = {
            "victim": dict(victim_key),
            "recipe": recipe.key(),
            "seed": streams.seed,
        }
        if recipe.standardise and backbone.head_style.layer_norm:
            spec["standardisation"] = "in the affine"  # heads stored before answer otherwise
        stored, _ = remember(_KIND, spec, make, device=device, like=part.state_dict())
    else:
        stored = make()
    part.load_state_dict(stored.state)
    return network.requires_grad_(False).eval()


def ood_draws(
    recipe: FortressRecipe,
    train: ImageSet,
    generator: torch.Generator,
    load_pool: Callable[..., ImageSet] | None,
) -> Draw | None:
    """Return the recipe's source of OOD images; None where it does without."""
    if not recipe.uses_ood:
        return None
    draw = ood_source(recipe.ood, Material(train, generator, load_pool))
    return FixedBatch(draw) if recipe.fixed_ood else draw


def _with_new_heads(
    backbone: Staged, recipe: FortressRecipe, generator: torch.Generator
) -> MultiExit:
    stochastic = recipe.objective == "bound" and recipe.w_c > 0
    try:
        return with_heads(
            copy.deepcopy(backbone), generator=generator, exits=recipe.exits, stochastic=stochastic
        )
    except ValueError as error:
        raise ScenarioError(f"'exits' do not fit this victim: {error}") from error


def _objective(
    network: MultiExit, recipe: FortressRecipe, streams: Streams, device: torch.device
) -> Objective:
    alpha = recipe.alphas(network.num_exits)
    if recipe.objective == "released":
        return ReleasedObjective(network, alpha)
    weights = Weights(
        alpha,
        estimator=recipe.estimator,
        x_info=recipe.x_info,
        w_c=recipe.w_c,
        w_y=recipe.w_y,
        w_x=recipe.w_x,
        w_s=recipe.w_s,
    )
    return BoundObjective(
        network,
        weights,
        chance=streams.torch("exits/noise", device),
        initial=streams.torch("exits/probes", device),
        train_last=recipe.backbone in ("last", "all"),
    )


def _exit_recipe(recipe: FortressRecipe, images: int) -> ExitRecipe:
    return ExitRecipe(
        epochs=recipe.epochs_for(images),
        learning_rate=recipe.learning_rate,
        batch=recipe.batch,
        ood_batch=recipe.ood_batch,
        backbone=recipe.backbone,
        ood_schedule=recipe.ood_schedule,
        ood_label=recipe.ood_label,
        augment=recipe.augment,
        cosine=recipe.cosine,
        clip=recipe.clip,
        standardise=recipe.standardise,
        weight_decay=recipe.weight_decay,
    )
