"""Plain tensors out of what players hand over, read by torch as it is and not by their overrides.

A subclass of Tensor may lie about its shape or its values, and so may a torch mode that a player
left active. What a ledger counts and a referee compares is taken from here.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

_HOLLOW = (torch._C.DispatchKey.Python, torch._C.DispatchKey.Functionalize)
"""Kinds of tensors whose operations run elsewhere than in the memory they seem to have."""


def without_overrides() -> AbstractContextManager[None]:
    """Run torch without `__torch_function__`, and without modes that are active."""
    if torch._C._len_torch_dispatch_stack():
        return _without_modes()
    switched_off: AbstractContextManager[None] = torch._C.DisableTorchFunction()
    return switched_off


@contextmanager
def _without_modes() -> Iterator[None]:
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


@contextmanager
def with_overrides() -> Iterator[None]:
    """Run a player's network as its author wrote it, amid `without_overrides`."""
    with torch._C._EnableTorchFunction():
        yield


def own_precision(kind: str) -> AbstractContextManager[object]:
    """Keep the autocast of whoever asks from the networks that answer, on a kind of device."""
    is_on = torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if is_on else nullcontext()


def _kind(tensor: Tensor) -> int:
    """Return which of torch's back ends and transforms see a tensor, as a set of bits."""
    keys: int = torch._C._dispatch_keys(tensor).raw_repr()
    return keys


def _usual_kinds() -> frozenset[int]:
    with without_overrides():  # a mode that is active would give other tensors
        kinds = set()
        for mode in (False, True):
            with torch.inference_mode(mode):
                kinds.add(_kind(torch.zeros((), device="cpu")))
        return frozenset(kinds)


_USUAL = _usual_kinds()
"""The kinds of dense tensors in a CPU's memory, which stand for nothing else."""


def plain_tensor(value: object) -> Tensor:
    """Return a plain, detached tensor in the memory of `value`.

    Raises:
        TypeError: no tensor, or one whose memory is not that of a dense tensor; the message says
            what came.
    """
    with without_overrides():
        return plain_within(value)


def plain_within(value: object) -> Tensor:
    """Do as `plain_tensor`, for callers that are within `without_overrides`."""
    if not issubclass(type(value), Tensor):  # isinstance would believe a false `__class__`
        raise TypeError(type(value).__name__)
    tensor: Tensor = value  # type: ignore[assignment]  # as was just seen
    if type(value) is Tensor and _kind(tensor) in _USUAL:
        return tensor.data  # detached at a microsecond less than by `detach`
    keys = torch._C._dispatch_keys(tensor)
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        raise TypeError("a tensor inside a transform of torch.func")
    if any(keys.has(key) for key in _HOLLOW):
        raise TypeError(f"a {type(value).__name__} that only stands for a tensor")
    if _read(tensor, "is_nested"):
        raise TypeError("a nested tensor")
    layout = _read(tensor, "layout")
    if layout != torch.strided or _read(tensor, "is_meta"):
        raise TypeError(f"a tensor of layout {layout} without memory of its own")
    return Tensor.as_subclass(tensor, Tensor).detach().resolve_neg()


def _read(tensor: Tensor, name: str) -> object:
    """Read an attribute by torch's own getter, because a subclass may have another."""
    found: object = vars(torch._C.TensorBase)[name].__get__(tensor)
    return found
