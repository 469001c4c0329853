"""Gradient redirection (GRAD): answers that steer the clone in parameter space.

An attacker who climbs sum_k y'_k log p(k|x) moves along G'y'. The defence maximises <G'y', z> for
a direction z over all of a surrogate's parameters. That is linear in y', so that only
v_k = d/dt log p_{theta + t z}(k|x) at t = 0 is needed: one forward-mode pass for the whole batch.

Source:
    Mazeika, Li and Forsyth 2022, How to Steer Your Adversary, ICML, arXiv:2206.14157.
"""

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Literal

import torch
import torch.autograd.forward_ad as fwd
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from envs.defences.base import Serving
from envs.defences.harden_kit import HardenKit
from envs.defences.label_preserving import PosteriorDefence, Preserve
from envs.defences.needs import Need
from envs.defences.simplex import redirect
from envs.defences.surrogate import Origin, Surrogate, SurrogatePlan, make_surrogate
from envs.nets.staged import Staged
from envs.ranges import Count
from envs.victim.victim import Victim

Direction = Literal["ones", "random", "parameters"]

Along = Mapping[str, Tensor] | Literal["ones"]
"""A direction of a network's parameters."""

_ONE_AT_A_TIME = threading.Lock()
"""Levels of forward-mode differentiation, and hooks, are shared by the threads of a server."""


class GradientRedirection(PosteriorDefence):
    """Steer whoever trains on the answers towards a fixed direction, within an L1 budget.

    Hard labels: the argmax of the redirected answer, which is the receiver's class at epsilon 1
    and above; with `preserve_top1` "on" or "label_only" the undefended victim's.

    Args:
        epsilon: L1 budget, 0 to 2.
        direction: z. "ones" is the paper's GRAD^2, the same for every query; "random" (standard
            normal) and "parameters" (the surrogate's own) are ablations.
        surrogate: "trained"; "untrained" and "small" (an untrained perceptron) are ablations.
        surrogate_data: what it learned on: "own" (the victim's training images) or a source of
            images, by default outputs of untrained image generators. The queries of a data-free
            attack are not known before the game; published tables do not say what they used.
        surrogate_epochs: epochs it trained for.
        schedule_epochs: epochs its learning rate is scheduled for.
        preserve_top1: "off" (as released), "on" or "label_only".

    Raises:
        ValueError: a value outside its range.

    Notes:
        The paper minimises with the negated target and propagates back twice; the optimum is the
        same. The direction per query (MIN-IP, minus the clean gradient) is not offered: it needs
        a pass per image and is not the method its tables favour.
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.5,
        direction: Direction = "ones",
        surrogate: Origin = "trained",
        surrogate_data: str = "generator",
        surrogate_epochs: Count = 10,
        schedule_epochs: Count = 50,
        preserve_top1: Preserve = "off",
    ) -> None:
        super().__init__(epsilon=epsilon, preserve_top1=preserve_top1)
        self.direction = direction
        self.plan = SurrogatePlan(surrogate, surrogate_data, surrogate_epochs, schedule_epochs)
        self._surrogate: Surrogate | None = None
        self._along: Along = "ones"

    @property
    def trained_on(self) -> tuple[str, ...]:
        """What the surrogate was distilled on, if not on the victim's own images."""
        return self.plan.trained_on

    @property
    def needs(self) -> frozenset[Need]:
        """What its surrogate needs."""
        return self.plan.needs

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Train the surrogate and fix the direction."""
        self._surrogate = make_surrogate(victim, kit, self.plan)
        generator = kit.streams.torch("gradient-redirection", victim.device)
        self._along = direction_of(self._surrogate.network, self.direction, generator)
        self.overhead_macs = slope_macs(self._surrogate.network, self._along)
        return victim

    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Move mass to where the surrogate's log-probability rises fastest along z."""
        assert self._surrogate is not None, "harden comes first"
        network = self._surrogate.network
        parts = self._surrogate.parts(serving.images)
        worth = torch.cat([log_slopes(network, part, self._along) for part in parts])
        return redirect(clean, worth, serving.strength * self.epsilon)


def direction_of(network: Staged, kind: Direction, generator: torch.Generator) -> Along:
    """Build a direction over exactly the parameters of a network."""
    if kind == "ones":
        return kind
    parameters = {name: weights.detach() for name, weights in network.named_parameters()}
    if kind == "parameters":
        return {name: weights.clone() for name, weights in parameters.items()}
    return {
        name: torch.randn(
            weights.shape, generator=generator, device=weights.device, dtype=weights.dtype
        )
        for name, weights in parameters.items()
    }


def log_slopes(network: Staged, images: Tensor, along: Along) -> Tensor:
    """Differentiate the log-posteriors of a network along a direction of its parameters.

    Args:
        network: in evaluation mode, so that neither batch statistics nor dropout move.
        images: (n, c, h, w).
        along: a tensor for each of its parameters, by name, or "ones" for the all-ones vector,
            which takes two forward passes instead of three.

    Returns:
        (n, K) float64: v_k = d/dt log p_{theta + t z}(k|x) at t = 0, for which sum_k p_k v_k = 0.
    """
    _prepare_forward_mode()
    parameters = {name: weights.detach() for name, weights in network.named_parameters()}
    with _ONE_AT_A_TIME, fwd.dual_level(), ExitStack() as stack:
        if along == "ones":
            summed = stack.enter_context(sums_for_weights(network))
            along = {
                name: torch.ones_like(w) for name, w in parameters.items() if name not in summed
            }
        moving = {name: fwd.make_dual(parameters[name], z) for name, z in along.items()}
        logits, tangent = fwd.unpack_dual(functional_call(network, moving, (images,)))
        slopes = torch.zeros_like(logits) if tangent is None else tangent
    slopes = slopes.double()
    mean: Tensor = (logits.double().softmax(1) * slopes).sum(1, keepdim=True)
    return slopes - mean


@contextmanager
def sums_for_weights(network: nn.Module) -> Iterator[set[str]]:
    """Move all weights of convolutions, linear layers and normalisations along all ones, cheaply.

    The change of such a layer's output is the same for all its outputs: the sum over what each
    of them sees of the input, without any product. Value and tangent go through the layer apart,
    because torch would also apply a tangent of zeros, of the weights, to the input.

    Yields:
        Names of the parameters that are moved this way.
    """
    layers = {name: layer for name, layer in network.named_modules() if _has_sums(layer)}
    tangents: dict[nn.Module, Tensor | None] = {}

    def part(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        value, tangents[layer] = fwd.unpack_dual(inputs[0])
        return (value,)

    def join(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        change, tangent = _sums(layer, inputs[0]), tangents.pop(layer)
        change = (
            change.expand_as(output) if tangent is None else _apply(layer, tangent).add_(change)
        )
        joined: Tensor = fwd.make_dual(output, change.contiguous())
        return joined

    hooks = [layer.register_forward_pre_hook(part) for layer in layers.values()]
    hooks += [layer.register_forward_hook(join) for layer in layers.values()]
    try:
        yield {f"{name}.{own}" for name in layers for own, _ in layers[name].named_parameters()}
    finally:
        for hook in hooks:
            hook.remove()


def _has_sums(layer: nn.Module) -> bool:
    if isinstance(layer, nn.BatchNorm2d):
        # as it serves, it is an affine map; in training it moves batch statistics
        return not layer.training and layer.affine and layer.track_running_stats
    plain = isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros"
    return plain or isinstance(layer, nn.Linear)


def _apply(layer: nn.Module, tangent: Tensor) -> Tensor:
    """Map a tangent of the input to one of the output; no bias."""
    if isinstance(layer, nn.Conv2d):
        return _convolve(layer, tangent, layer.weight, layer.groups)
    if isinstance(layer, nn.BatchNorm2d):
        assert layer.running_mean is not None
        return _normalise(layer, tangent, torch.zeros_like(layer.running_mean), layer.weight)
    assert isinstance(layer, nn.Linear)
    mapped: Tensor = F.linear(tangent, layer.weight)
    return mapped


def _sums(layer: nn.Module, seen: Tensor) -> Tensor:
    """Sum the input that each output sees, and 1 for its bias."""
    if isinstance(layer, nn.BatchNorm2d):
        assert layer.running_mean is not None
        ones = torch.ones_like(layer.running_mean)
        # the standardised input for the weight, and 1 for the bias
        return _normalise(layer, seen, layer.running_mean, ones, ones)
    if isinstance(layer, nn.Conv2d):
        groups = layer.groups
        # over channels first, then over places: cheaper than one convolution with ones
        channels = seen.unflatten(1, (groups, -1)).sum(2)  # (n, groups, h, w)
        change = _window_sums(layer, channels)
        if groups > 1:
            change = change.repeat_interleave(layer.out_channels // groups, 1)
    else:
        change = seen.sum(-1, keepdim=True)
    return change if layer.bias is None else change + 1


def _window_sums(layer: nn.Conv2d, channels: Tensor) -> Tensor:
    """Sum (n, groups, h, w) over the places that each output of a convolution sees."""
    size, padding = layer.kernel_size, layer.padding
    if not isinstance(padding, str) and set(layer.dilation) == {1}:
        pads = (padding[0], padding[1])
        if 2 * pads[0] <= size[0] and 2 * pads[1] <= size[1]:  # what pooling can do
            return F.avg_pool2d(channels, size, layer.stride, pads, divisor_override=1)
    ones = channels.new_ones(layer.groups, 1, *layer.kernel_size)
    return _convolve(layer, channels, ones, layer.groups)


def _normalise(
    layer: nn.BatchNorm2d,
    signal: Tensor,
    mean: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Standardise by the layer's own variance, but with another mean, weight and bias."""
    return F.batch_norm(signal, mean, layer.running_var, weight, bias, eps=layer.eps)


def _convolve(layer: nn.Conv2d, signal: Tensor, weight: Tensor, groups: int) -> Tensor:
    return F.conv2d(signal, weight, None, layer.stride, layer.padding, layer.dilation, groups)


def slope_macs(network: Staged, along: Along) -> int:
    """Count the multiply-accumulates that `log_slopes` takes for one image, by running it once."""
    image = next(network.parameters()).new_zeros(1, *network.image_shape)
    from torch.utils.flop_counter import FlopCounterMode  # loads a compiler

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        log_slopes(network, image, along)
    flops: int = counter.get_total_flops()
    return flops // 2


@cache
def _prepare_forward_mode() -> None:
    """Let torch load its forward-mode rules once, which warns of something of its own."""
    with warnings.catch_warnings(), fwd.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        fwd.make_dual(torch.zeros(()), torch.ones(()))
