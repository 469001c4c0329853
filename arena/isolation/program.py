"""Runs a clone that was handed over as an exported program: a list of operators, and weights.

The list comes from a process that may write what it likes. It is read as JSON, its operators are
looked up by name among those that only compute, and before it computes anything its sizes are
found on tensors without memory.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from arena.isolation import operators
from envs.errors import PlayerError, one_line

# `Any` in this file: JSON as it was parsed, and arguments of operators.

IMAGES = "images"
"""Name of what goes in."""

_MOST_STEPS = 20_000
_MOST_VALUES = 2**30  # numbers that are alive at once: 4 GiB of float32
_MOST_SECONDS = 600.0


class _Name(NamedTuple):
    """Stands for the value of that name."""

    name: str


class _Device(NamedTuple):
    """Stands for the device the program runs on."""


class _Step(NamedTuple):
    """One operator of the program."""

    name: str
    target: str
    call: Callable[..., Any]
    arguments: Any
    options: Any
    spent: tuple[str, ...]
    """Names that no later step reads."""


class Program(nn.Module):
    """A clone that a list of operators describes.

    Args:
        text: the list, in JSON: {"steps": [[name, operator, arguments, options], ...], "output":
            name}.
        weights: tensors by name.
        device: where it runs.

    Attributes:
        text: as given.

    Raises:
        PlayerError: the list is none, or has an operator that is not scored.
    """

    def __init__(
        self, text: bytes | bytearray, weights: Mapping[str, Tensor], device: torch.device
    ) -> None:
        super().__init__()
        self.text = bytes(text)
        self._weights = {name: tensor.to(device) for name, tensor in weights.items()}
        self._bare = {name: tensor.to("meta") for name, tensor in weights.items()}
        self._steps, self._output = _parse(text, {IMAGES, *weights})
        self._measured: set[torch.Size] = set()
        self._left = _MOST_SECONDS  # for all its answers together
        self._deadline = math.inf

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The tensors that the operators read, by name."""
        return self._weights

    def forward(self, images: Tensor) -> Any:
        """Map (n, c, h, w) in [0, 1] to what the program makes of it.

        Raises:
            PlayerError: it takes too much memory or time.
        """
        began = time.monotonic()
        self._deadline = began + self._left
        try:
            if images.shape not in self._measured:
                self._run(torch.empty_like(images, device="meta"), self._bare, measure=True)
                self._measured.add(images.shape)
            return self._run(images, self._weights, measure=False)
        finally:
            self._left -= time.monotonic() - began

    def unlimited(self, images: Tensor) -> Any:
        """Compute without limits, and so that `torch.export` can follow."""
        return self._run(images, self._weights, measure=False)

    def _run(self, images: Tensor, weights: Mapping[str, Tensor], *, measure: bool) -> Any:
        values: dict[str, Any] = {IMAGES: images, **weights}
        for step in self._steps:
            arguments = _filled(step.arguments, values, images.device)
            options = _filled(step.options, values, images.device)
            if images.device.type == "cuda" and _looks_up(step.target):
                values[step.name] = _on_host(step.call, arguments, options, images.device)
            else:
                values[step.name] = step.call(*arguments, **options)
            for name in step.spent:
                del values[name]
            if measure:
                _refuse_large(values)
            if time.monotonic() > self._deadline:
                raise PlayerError(f"the clone takes longer than {_MOST_SECONDS:.0f} s to answer")
        return values[self._output]


def _parse(text: bytes | bytearray, known: set[str]) -> tuple[list[_Step], str]:
    try:
        table = json.loads(text)
        raw, output = table["steps"], table["output"]
        if len(raw) > _MOST_STEPS:
            raise ValueError(f"more than {_MOST_STEPS} steps")
        steps = [_step(entry, known) for entry in raw]
        if output not in known:
            raise ValueError("an output that no step makes")
    except PlayerError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise PlayerError(f"the clone's program cannot be read: {one_line(error)[:160]}") from error
    return _with_last_uses(steps, output), output


def _step(entry: Any, known: set[str]) -> _Step:
    name, target, arguments, options = entry
    if not isinstance(name, str) or not isinstance(target, str) or name in known:
        raise ValueError("a step without a name of its own")
    call = operators.find(target)
    if call is None:
        raise PlayerError(f"the clone's program uses {target[:80]!a}, which is not scored")
    if not isinstance(arguments, list) or not isinstance(options, dict):
        raise TypeError("a step without arguments")
    decoded = {key: _decoded(value, known) for key, value in options.items()}
    if operators.takes_device(call):  # else it would make its tensor here while sizes are found
        decoded["device"] = _Device()
    step = _Step(name, target, call, _decoded(arguments, known), decoded, ())
    known.add(name)
    return step


def _decoded(value: Any, known: set[str]) -> Any:
    """Turn JSON into arguments; tables stand for what JSON has not."""
    if isinstance(value, list):
        return [_decoded(item, known) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, what),) = value.items()
    if kind == "value" and what in known:
        return _Name(what)
    if kind == "dtype":
        return operators.DTYPES[what]
    if kind == "format":
        return operators.FORMATS[what]
    if kind == "device":
        return _Device()
    if kind == "layout":
        return torch.strided
    if kind == "number":  # what JSON cannot write
        return float(what)
    raise ValueError(f"an argument of kind {kind!a}")


def _filled(value: Any, values: Mapping[str, Any], device: torch.device) -> Any:
    if isinstance(value, _Name):
        return values[value.name]
    if isinstance(value, _Device):
        return device
    if isinstance(value, list):
        return [_filled(item, values, device) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, values, device) for key, item in value.items()}
    return value


def _with_last_uses(steps: Sequence[_Step], output: str) -> list[_Step]:
    """Note at each step which values are of no use after it, so that memory is given back."""
    made = {step.name for step in steps}
    seen, finished = {output}, []
    for step in reversed(steps):
        used = {step.name, *_names(step.arguments), *_names(step.options)} & made
        spent = tuple(sorted(used - seen))
        seen |= used
        finished.append(step._replace(spent=spent))
    return finished[::-1]


def _names(value: Any) -> set[str]:
    if isinstance(value, _Name):
        return {value.name}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {name for part in parts for name in _names(part)}


def _looks_up(target: str) -> bool:
    return operators.short_name(target) in operators.LOOKUPS


def _on_host(call: Callable[..., Any], arguments: Any, options: Any, device: torch.device) -> Any:
    """Look up on the CPU, where a wrong position is an exception and no broken device."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.cpu()
        return [moved(item) for item in value] if isinstance(value, list) else value

    return call(*moved(arguments), **options).to(device)


def _refuse_large(values: Mapping[str, Any]) -> None:
    total = 0
    for value in values.values():
        parts = value if isinstance(value, tuple | list) else (value,)
        total += sum(part.numel() for part in parts if isinstance(part, Tensor))
    if total > _MOST_VALUES:
        raise PlayerError(f"the clone needs room for more than {_MOST_VALUES} numbers at once")
