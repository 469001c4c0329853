"""What a handed-over program may be made of: operators that compute and touch nothing else.

None of them reads memory by an address, a file or the device's clock, and none runs code.
"""

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

# `Any` in this file: arguments of operators.


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_POINTWISE = _words(
    """
    abs add sub rsub mul div neg pow sqrt rsqrt exp expm1 log log1p log2 sigmoid tanh sin cos
    erf relu relu6 hardtanh hardsigmoid hardswish silu gelu elu leaky_relu prelu softplus mish
    selu celu log_sigmoid clamp clamp_min clamp_max maximum minimum sign square reciprocal
    round floor ceil trunc remainder lerp addcmul addcdiv masked_fill fill zero copy dropout
    """
)
_OTHER = _words(
    """
    eq ne lt le gt ge logical_and logical_or logical_not bitwise_and bitwise_or bitwise_not
    where isnan isfinite softmax _softmax log_softmax _log_softmax logsumexp logaddexp sum mean
    var std var_mean amax amin max min argmax argmin topk sort argsort cumsum prod any all norm
    linalg_vector_norm cosine_similarity conv1d conv2d conv3d conv_transpose2d convolution
    linear matmul mm bmm mv dot addmm addmv baddbmm einsum batch_norm instance_norm layer_norm
    group_norm rms_norm native_layer_norm native_group_norm scaled_dot_product_attention
    max_pool1d max_pool2d
    max_pool2d_with_indices avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d
    _adaptive_avg_pool2d adaptive_max_pool2d flatten unflatten view _unsafe_view reshape
    permute transpose t mT movedim squeeze unsqueeze expand expand_as repeat cat concat stack
    split split_with_sizes chunk unbind select slice narrow roll flip tril triu pad
    constant_pad_nd reflection_pad2d replication_pad2d contiguous clone detach detach_ alias to
    _to_copy type_as float lift_fresh lift_fresh_copy feature_dropout alpha_dropout
    pixel_shuffle pixel_unshuffle channel_shuffle upsample_nearest2d upsample_bilinear2d
    upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa zeros ones full arange
    zeros_like ones_like full_like new_zeros new_ones new_full scalar_tensor sym_size
    """
)
LOOKUPS = _words(
    """
    gather index index_select embedding one_hot
    """
)
"""Operators that are given positions. On an accelerator a wrong one would end the process."""

NAMES = _POINTWISE | {f"{name}_" for name in _POINTWISE} | _OTHER | LOOKUPS

_LARGEST_NUMBER = 2**62

NUMBERS: Mapping[str, Callable[..., Any]] = {
    name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg")
}
"""What sizes are computed with."""

GETITEM = "getitem"

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float32, torch.float64, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )
}  # fmt: skip

FORMATS = {
    str(one).removeprefix("torch."): one
    for one in (torch.contiguous_format, torch.preserve_format, torch.channels_last)
}


def short_name(target: str) -> str:
    """Return "add" of "aten.add.Tensor"; "" of what is no operator of aten."""
    parts = target.split(".")
    return parts[1] if len(parts) == 3 and parts[0] == "aten" else ""


def find(target: str) -> Callable[..., Any] | None:
    """Return the operator of a name such as "aten.add.Tensor" or "number.mul"; None if not here."""
    if target.startswith("number."):
        function = NUMBERS.get(target.removeprefix("number."))
        return None if function is None else partial(_computed, function)
    if target == GETITEM:
        return _item
    name = short_name(target)
    if name not in NAMES or "out" in target.rpartition(".")[2]:
        return None
    packet = getattr(torch.ops.aten, name, None)
    overload = target.rpartition(".")[2]
    if packet is None or overload not in packet.overloads():
        return None
    found: Callable[..., Any] = getattr(packet, overload)
    return found


def takes_device(call: Callable[..., Any]) -> bool:
    """Whether an operator may be told, by the word `device`, where to put what it makes."""
    schema = getattr(call, "_schema", None)
    return schema is not None and any(
        one.name == "device" and one.kwarg_only for one in schema.arguments
    )


def _computed(function: Callable[..., Any], *numbers: object) -> int | float:
    """Compute a size; only numbers, because lists and texts would grow without bound."""
    if not all(type(one) in (int, float) for one in numbers):
        raise TypeError("expected numbers to compute a size with")
    result: int | float = function(*numbers)
    if abs(result) > _LARGEST_NUMBER:
        raise OverflowError("a size that no tensor has")
    return result


def _item(parts: object, place: object) -> object:
    """Return one of several results; never an element of a tensor, which is a lookup."""
    if not isinstance(parts, tuple | list) or type(place) is not int:
        raise TypeError("expected one of several results")
    return parts[place]
