"""Describes objects by plain JSON and tensors, and makes them again without running their code.

Every container, object and tensor is a node; nodes name each other by number, so that what was one
object is one again. Read back are plain containers, tensors, generators, and objects of listed
packages: without their constructors, with the attributes they had. The oracle, the kit and the pool
belong to the match: a description holds their names, and the reader puts its own in their place.
"""

import copyreg
import enum
import importlib
import json
import operator
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from envs.errors import SaveError, one_line

# `Any` in this file: whatever a player holds.

OWN = ("agents", "envs", "arena.evaluation", "arena.runner.countermeasures")
"""Packages whose objects are described."""

LIBRARIES = ("torch.nn", "torch.optim", "torchvision", "timm")
"""Packages whose modules and optimizers are described."""

_CALLED: dict[str, type] = {
    kind.__name__: kind
    for kind in (OrderedDict, defaultdict, deque, Counter, dict, list, set, torch.Size, Path)
}
_CONTAINERS: dict[type, str] = {kind: kind.__name__ for kind in (list, tuple, set, frozenset, dict)}
_ATOMS = (type(None), bool, int, float, str)


class NotPlainError(Exception):
    """Something cannot be described; the message names its type."""


def describe(state: object, live: Mapping[str, object]) -> tuple[str, list[Tensor]]:
    """Describe a state.

    Args:
        state: containers, tensors and objects of built-in players, `live` objects among them.
        live: objects that are known by name and are not described.

    Returns:
        JSON, and the tensors that it numbers.

    Raises:
        NotPlainError: it holds something else, such as an object of a plug-in.
        Exception: it is nested too deep, or an object refuses to be taken apart.
    """
    description = _Description(live)
    root = description.value(state)
    return json.dumps({"root": root, "nodes": description.nodes}), description.tensors


def restore(text: str, tensors: list[Tensor], live: Mapping[str, object]) -> Any:
    """Make a state again that `describe` described.

    Args:
        text: the JSON.
        tensors: that it numbers.
        live: the objects of now, by the names of then.

    Raises:
        SaveError: it names what is not there, or is no such description.
    """
    try:
        content = json.loads(text)
        return _Restoration(content["nodes"], tensors, live).value(content["root"])
    except Exception as error:  # whatever players' own classes raise at odd attributes
        raise SaveError(f"its description cannot be read: {one_line(error)}") from error


class _Description:
    """Numbers what it meets."""

    def __init__(self, live: Mapping[str, object]) -> None:
        self.nodes: list[object] = []
        self.tensors: list[Tensor] = []
        self._live = {id(thing): name for name, thing in live.items() if thing is not None}
        self._numbers: dict[int, int] = {}
        # kept alive, or an address might be given to another object
        self._held: list[object] = []

    def value(self, thing: Any) -> object:
        """Return a JSON atom, or a list that holds the number of a node."""
        if type(thing) in _ATOMS:
            return thing
        number = self._numbers.get(id(thing))
        if number is None:
            number = self._numbers[id(thing)] = len(self.nodes)
            self._held.append(thing)
            self.nodes.append(None)
            self.nodes[number] = self._node(thing)
        return [number]

    def _node(self, thing: Any) -> list[object]:
        if (name := self._live.get(id(thing))) is not None:
            return ["live", name]
        kind = type(thing)
        if kind in (Tensor, nn.Parameter):
            self.tensors.append(thing)
            return ["tensor", len(self.tensors) - 1]
        if kind is dict:
            return ["dict", *([self.value(key), self.value(held)] for key, held in thing.items())]
        if kind in _CONTAINERS:
            return [_CONTAINERS[kind], *map(self.value, thing)]
        if kind is torch.Generator:
            return ["generator", str(thing.device), self.value(thing.get_state())]
        if kind is torch.device or kind is torch.dtype:
            return [kind.__name__, str(thing).removeprefix("torch.")]
        if isinstance(thing, enum.Enum):
            return ["choice", *_address(kind), thing.name]
        if kind is types.MethodType and _is_found(thing, type(thing.__self__), thing.__name__):
            return ["method", self.value(thing.__self__), thing.__name__]
        if kind is types.FunctionType or isinstance(thing, type):
            return ["name", *_address(thing)]
        return self._object(thing)

    def _object(self, thing: Any) -> list[object]:
        make, args, state, items, pairs = _reduced(thing)
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            how, args, address = "new", args[1:], _address(args[0])
        elif isinstance(thing, Path):
            how, args, address = "call", (str(thing),), ("", "Path")
        elif make in _CALLED.values():
            how, address = "call", ("", make.__name__)
        else:
            raise NotPlainError(f"{type(thing).__module__}.{type(thing).__qualname__}")
        return [
            how,
            *address,
            [self.value(one) for one in args],
            self.value(state),
            [self.value(one) for one in items or ()],
            [[self.value(key), self.value(held)] for key, held in pairs or ()],
        ]


def _reduced(thing: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Take an object apart as pickle and copy do: maker, arguments, state, items, pairs."""
    kind = type(thing)
    if not _is_listed(kind) and kind not in _CALLED.values() and not isinstance(thing, Path):
        raise NotPlainError(f"{kind.__module__}.{kind.__qualname__}")
    parts = thing.__reduce_ex__(2)
    if not isinstance(parts, tuple):
        raise NotPlainError(f"{kind.__qualname__} as {parts!r}")
    make, args, state, items, pairs = (*parts, None, None, None)[:5]
    return make, args, state, items, pairs


class _Restoration:
    """Makes nodes when they are asked for first."""

    def __init__(
        self, nodes: list[list[Any]], tensors: list[Tensor], live: Mapping[str, object]
    ) -> None:
        self._nodes, self._tensors, self._live = nodes, tensors, live
        self._made: dict[int, Any] = {}
        self._makers: dict[str, Callable[..., Any]] = {
            "live": self._live.__getitem__,
            "tensor": self._tensors.__getitem__,
            "generator": self._generator,
            "device": torch.device,
            "dtype": self._dtype,
            "method": self._method,
            "name": _find,
            "choice": lambda module, kind, name: _find(module, kind).__members__[name],
            "tuple": lambda *held: tuple(map(self.value, held)),
            "frozenset": lambda *held: frozenset(map(self.value, held)),
        }

    def value(self, written: Any) -> Any:
        """Return what an atom or the number of a node stands for."""
        if not isinstance(written, list):
            return written
        (number,) = written
        if number not in self._made:
            kind, *parts = self._nodes[number]
            if kind in self._makers:
                self._made[number] = self._makers[kind](*parts)
            else:
                self._fill(number, kind, parts)
        return self._made[number]

    def _fill(self, number: int, kind: str, parts: list[Any]) -> None:
        """Make what may hold itself: it is known by its number before its parts are."""
        if kind in ("new", "call"):
            self._object(number, kind, *parts)
            return
        made = self._made[number] = {"list": list, "set": set, "dict": dict}[kind]()
        if kind == "dict":
            made.update((self.value(key), self.value(held)) for key, held in parts)
        elif kind == "set":
            made.update(map(self.value, parts))
        else:
            made.extend(map(self.value, parts))

    def _object(
        self,
        number: int,
        how: str,
        module: str,
        name: str,
        args: list[Any],
        state: Any,
        items: list[Any],
        pairs: list[Any],
    ) -> None:
        held = [self.value(one) for one in args]
        if how == "call":
            made = _CALLED[name](*held)
        else:
            kind = _find(module, name)
            made = kind.__new__(kind, *held)
        self._made[number] = made
        for one in items:
            made.append(self.value(one))
        for key, one in pairs:
            made[self.value(key)] = self.value(one)
        _set_state(made, self.value(state))

    def _generator(self, device: str, state: Any) -> torch.Generator:
        made = torch.Generator(device=device)
        made.set_state(self.value(state))
        return made

    def _dtype(self, name: str) -> torch.dtype:
        made = getattr(torch, name)
        if not isinstance(made, torch.dtype):
            raise TypeError(f"torch.{name} is no dtype")
        return made

    def _method(self, owner: Any, name: str) -> Any:
        thing = self.value(owner)
        function = getattr(type(thing), name)
        # what the match itself lends is known by a name
        if not isinstance(function, types.FunctionType) or not _is_listed(type(thing)):
            raise TypeError(f"{name!r} is no method of a player")
        return types.MethodType(function, thing)


def _set_state(made: Any, state: Any) -> None:
    """Set attributes as pickle and copy do."""
    if state is None:
        return
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        made.__dict__.update(attributes)
    for name, value in (slots or {}).items():
        setattr(made, name, value)


def _address(thing: Any) -> tuple[str, str]:
    """Say where a class or function is defined, if it may be described."""
    if thing in _CALLED.values():
        return "", thing.__name__
    if not _is_listed(thing) or not _is_found(thing, sys.modules[thing.__module__]):
        raise NotPlainError(f"{thing.__module__}.{thing.__qualname__}")
    return thing.__module__, thing.__qualname__


def _is_found(thing: Any, where: Any, name: str = "") -> bool:
    """Whether a name leads to a class, a function or a method: not to what a function made."""
    try:
        found = operator.attrgetter(name or thing.__qualname__)(where)
    except AttributeError:
        return False
    return found is getattr(thing, "__func__", thing)


def _find(module: str, name: str) -> Any:
    """Find what `_address` named."""
    if not module:
        return _CALLED[name]
    if not _is_inside(module, (*OWN, *LIBRARIES)):
        raise ValueError(f"{module}.{name} is no part of a save")
    thing = operator.attrgetter(name)(importlib.import_module(module))
    if (thing.__module__, thing.__qualname__) != (module, name) or not _is_listed(thing):
        raise ValueError(f"{module}.{name} is no part of a save")
    return thing


def _is_listed(thing: Any) -> bool:
    """Whether a save may name a class or a function: ours, or a network or optimizer of torch."""
    if not isinstance(thing, type):
        return isinstance(thing, types.FunctionType) and _is_inside(thing.__module__, ("agents",))
    if _is_inside(thing.__module__, OWN):
        return True
    return _is_inside(thing.__module__, LIBRARIES) and issubclass(
        thing, nn.Module | Optimizer | enum.Enum
    )


def _is_inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in packages)
