"""The vision transformers of timm, cut into stages.

timm comes with the extra `vision` and is imported when one of them is built. Weights are drawn
from the passed generator, or read from a file; see `envs.nets.pretrained.Body` for those options.

Source:
    Liu et al. 2021 (Swin), arXiv:2103.14030; Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929;
    Touvron et al. 2021 (CaiT), arXiv:2103.17239, and (DeiT), arXiv:2012.12877.
"""

import importlib
from functools import partial
from typing import Any

from torch import nn

from envs.errors import ScenarioError
from envs.nets.pretrained import Body
from envs.nets.staged import Plan, Staged
from envs.nets.transformer_parts import (
    ClassAttention,
    LeadTokens,
    MeanToken,
    OnGrid,
    TokenStem,
    Transformer,
    TwoHeads,
)
from envs.nets.weights import State

# `Any` in this file: networks of timm, which has no types.

_QUARTERS = 4
_ADVICE = "enlarge them inside the network with enlarge"


def swin(
    plan: Plan,
    *,
    model: str,
    merged: bool = False,
    exit_every: int = 0,
    weights: str = "",
    frozen: bool = False,
    enlarge: int = 0,
) -> Staged:
    """Lay out a Swin; its stages end where the resolution changes.

    Args:
        plan: for images with sides that are multiples of 32.
        model: timm's name of it.
        merged: end stages after the patch merging that follows, as the released fortress does.
        exit_every: also cut the third stage, which has most of the blocks, after so many.
        weights: see `envs.nets.pretrained.Body`.
        frozen: see there.
        enlarge: see there.
    """
    body = Body(weights, frozen, enlarge)
    plan = body.plan(plan, model)
    whole, convert = _laid_out(model, body.seen(plan), multiple=32)
    stages, widths = _swin_stages(whole, merged=merged, exit_every=_blocks(exit_every))
    network = Transformer(
        plan,
        stages,
        widths=widths,
        neck=MeanToken(whole.norm),
        classifier=whole.head.fc,
        family="swin",
        depth=sum(len(layer.blocks) for layer in whole.layers),
        width=whole.embed_dim,
        reads_first=False,
    )
    return body.dress(network, whole, model=model, convert=convert)


def vit(
    plan: Plan,
    *,
    model: str,
    exit_every: int = 0,
    weights: str = "",
    frozen: bool = False,
    enlarge: int = 0,
) -> Staged:
    """Lay out a ViT or a DeiT; its stages end after each quarter of the blocks.

    Args:
        plan: for images with sides that are multiples of 16.
        model: timm's name of it.
        exit_every: cut after so many blocks instead.
        weights: see `envs.nets.pretrained.Body`.
        frozen: see there.
        enlarge: see there.
    """
    body = Body(weights, frozen, enlarge)
    plan = body.plan(plan, model)
    whole, convert = _laid_out(model, body.seen(plan), multiple=16)
    two = hasattr(whole, "head_dist")
    lead = [whole.cls_token, whole.dist_token] if two else [whole.cls_token]
    stages = _in_parts(list(whole.blocks), _blocks(exit_every))
    stages[0].insert(0, TokenStem(whole.patch_embed, whole.pos_embed, lead))
    network = Transformer(
        plan,
        stages,
        widths=[whole.embed_dim] * len(stages),
        neck=LeadTokens(whole.norm, len(lead)),
        classifier=TwoHeads(whole.head, whole.head_dist) if two else whole.head,
        family="deit" if model.startswith("deit") else "vit",
        depth=len(whole.blocks),
        width=whole.embed_dim,
        reads_first=True,
    )
    return body.dress(network, whole, model=model, convert=convert)


def cait(
    plan: Plan,
    *,
    model: str,
    layer_scale: float,
    exit_every: int = 0,
    weights: str = "",
    frozen: bool = False,
    enlarge: int = 0,
) -> Staged:
    """Lay out a CaiT; its two layers of class attention belong to the neck.

    Args:
        plan: for images with sides that are multiples of 16.
        model: timm's name of it.
        layer_scale: where the scales of its branches start.
        exit_every: cut after so many blocks instead of after each quarter of them.
        weights: see `envs.nets.pretrained.Body`.
        frozen: see there.
        enlarge: see there.
    """
    body = Body(weights, frozen, enlarge)
    plan = body.plan(plan, model)
    whole, convert = _laid_out(model, body.seen(plan), multiple=16)
    stages = _in_parts(list(whole.blocks), _blocks(exit_every))
    stages[0].insert(0, TokenStem(whole.patch_embed, whole.pos_embed))
    network = Transformer(
        plan,
        stages,
        widths=[whole.embed_dim] * len(stages),
        neck=ClassAttention(whole.cls_token, list(whole.blocks_token_only), whole.norm),
        classifier=whole.head,
        family="cait",
        depth=len(whole.blocks),
        width=whole.embed_dim,
        reads_first=False,
        layer_scale=layer_scale,
    )
    return body.dress(network, whole, model=model, convert=convert)


def _swin_stages(whole: Any, *, merged: bool, exit_every: int) -> tuple[list[OnGrid], list[int]]:
    """Cut Swin's chain of layers; returns the stages and the width after each."""
    stages: list[OnGrid] = []
    widths: list[int] = []
    grid, held = None, [whole.patch_embed]
    for number, layer in enumerate(whole.layers):
        last, count = number == len(whole.layers) - 1, len(layer.blocks)
        inside = exit_every if number == 2 and exit_every else count + 1
        # after the merging, inside, and at the end of the blocks
        cuts = {0} if merged and number else set()
        cuts |= set(range(inside, count, inside)) | ({count} if last or not merged else set())
        steps = [layer.downsample, *layer.blocks]  # the first layer's merges nothing
        for done, step in enumerate(steps):
            held.append(step)
            if done in cuts:
                stages.append(OnGrid(held, grid))
                widths.append(layer.blocks[0].dim)
                grid, held = tuple(layer.output_resolution), []
    return stages, widths


def _in_parts(blocks: list[nn.Module], size: int) -> list[nn.Sequential]:
    """Divide blocks into parts of a size, or into quarters where it is 0."""
    size = size or -(-len(blocks) // _QUARTERS)
    return [nn.Sequential(*blocks[i : i + size]) for i in range(0, len(blocks), size)]


def _blocks(exit_every: int) -> int:
    if exit_every < 0:
        raise ScenarioError(f"expected exit_every to be a number of blocks or 0, got {exit_every}")
    return exit_every


def _laid_out(model: str, plan: Plan, *, multiple: int) -> tuple[Any, "partial[State]"]:
    """Lay a network of timm out; also how to turn a file's tensors into its own."""
    height, width = plan.image_shape[1:]
    plan.require_size(multiple, _ADVICE)
    if height % multiple or width % multiple:
        raise ScenarioError(
            f"network '{plan.architecture}' needs sides that are multiples of {multiple} pixels, "
            f"got {height}x{width}; {_ADVICE}"
        )
    options = {
        "num_classes": plan.num_classes, "in_chans": plan.channels, "img_size": (height, width),
    }  # fmt: skip
    whole = _timm_network(model, options)
    return whole, partial(_converted, model=model, options=options)


def _timm_network(model: str, options: dict[str, Any]) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ScenarioError(
            f"{model} is a network of timm, which is not installed; "
            "run: pip install 'fortress-arena[vision]'"
        ) from error
    # without stochastic depth, whose chance torch takes from its global state
    return timm.create_model(model, pretrained=False, drop_path_rate=0.0, **options)


def _converted(state: State, *, model: str, options: dict[str, Any]) -> State:
    """Bring the tensors of a file to names and shapes of timm's network, by its own rules."""
    import torch

    with torch.device("meta"):
        whole = _timm_network(model, options)
    module = importlib.import_module(type(whole).__module__)
    converted: State = module.checkpoint_filter_fn(dict(state), whole)
    return converted
