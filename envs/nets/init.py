"""Starting weights, drawn from one passed generator and nothing else.

Networks are laid out on the meta device, where the constructors of torch's layers draw nothing,
then materialised and filled here. So two networks of one seed are equal bit for bit, and the
global random state is neither read nor moved.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from envs.nets.staged import InputNorm, Staged

Scheme = Literal["classifier", "default", "dcgan"]
M = TypeVar("M", bound=nn.Module)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
_DCGAN_STD = 0.02


def materialise(
    network: M,
    *,
    generator: torch.Generator,
    scheme: Scheme = "classifier",
    std: float = _DCGAN_STD,
) -> M:
    """Give a network that lies on the meta device its memory and its starting weights.

    Args:
        network: laid out under `torch.device("meta")`.
        generator: the only source of randomness; the network lands on its device.
        scheme: see `initialise`.
        std: see `initialise`.
    """
    network.to_empty(device=generator.device)
    initialise(network, generator=generator, scheme=scheme, std=std)
    return network


@torch.no_grad()
def initialise(
    network: nn.Module,
    *,
    generator: torch.Generator,
    scheme: Scheme = "classifier",
    std: float = _DCGAN_STD,
) -> None:
    """Draw every parameter anew and reset every buffer.

    Args:
        network: on the generator's device.
        generator: the only source of randomness.
        scheme: "classifier" draws convolutions from Kaiming's normal (fan-out, ReLU) with zero
            bias and linear layers uniformly within 1/sqrt(fan-in), torch's default; "default"
            does the latter for both; "dcgan" draws weights from N(0, `std`) with zero bias, and
            weights of normalisations from N(1, `std`).
        std: of "dcgan", 0.02 in its paper.

    Raises:
        TypeError: a layer has weights for which there is no rule here.

    Source:
        He et al. 2015, arXiv:1502.01852; Radford et al. 2016, arXiv:1511.06434.
    """
    own_rule = network.fill_layer if isinstance(network, Staged) else _no_rule
    for layer in network.modules():
        if own_rule(layer, generator):
            continue
        if isinstance(layer, InputNorm):
            layer.reset()
        elif isinstance(layer, _NORMS):
            _fill_norm(layer, generator, spread=std if scheme == "dcgan" else 0.0)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            _fill_weights(layer, generator, scheme, std)
        elif any(True for _ in layer.parameters(recurse=False)) or any(
            True for _ in layer.buffers(recurse=False)
        ):
            raise TypeError(f"no rule to initialise the weights of a {type(layer).__name__}")


def _no_rule(layer: nn.Module, generator: torch.Generator) -> bool:
    return False


def _fill_norm(layer: nn.Module, generator: torch.Generator, spread: float) -> None:
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if isinstance(weight, Tensor):
        if spread:
            weight.normal_(1.0, spread, generator=generator)
        else:
            weight.fill_(1.0)
    if isinstance(bias, Tensor):
        bias.zero_()
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.reset_running_stats()


def _fill_weights(
    layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear,
    generator: torch.Generator,
    scheme: Scheme,
    std: float,
) -> None:
    fan_in = layer.weight[0].numel()
    if scheme == "dcgan":
        layer.weight.normal_(0.0, std, generator=generator)
    elif scheme == "classifier" and isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(
            layer.weight, mode="fan_out", nonlinearity="relu", generator=generator
        )
    else:
        _fill_uniformly(layer.weight, fan_in, generator)
    if layer.bias is None:
        return
    if scheme == "default" or (scheme == "classifier" and isinstance(layer, nn.Linear)):
        _fill_uniformly(layer.bias, fan_in, generator)
    else:
        layer.bias.zero_()


def _fill_uniformly(weights: Tensor, fan_in: int, generator: torch.Generator) -> None:
    bound = 1 / math.sqrt(fan_in)
    weights.uniform_(-bound, bound, generator=generator)


_INITIALISING = frozenset({
    Tensor.uniform_, Tensor.normal_, Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_,
})  # fmt: skip


class NoInitialValues(TorchFunctionMode):
    """Leave out what libraries draw and scale in place: without values it costs time alone.

    On the meta device each such step takes torch a tenth of a millisecond or more, and a
    transformer of many layers takes a thousand of them.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the tensor as it is, or what the function returns."""
        if func in _INITIALISING and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))
