"""The code that all players of one process share: captured, compared, restored.

What a player puts in the place of a function or of a constant of ours, or hooks to every network,
would go on in the episodes of the next ones, and in the referee.
"""

import builtins
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _pop_mode

# `Any` in this file: modules and classes as they are found.

_LIBRARIES = (
    builtins, json, math, os, random, time, np,
    torch, torch.linalg, torch.nn, torch.nn.functional, torch.nn.init, torch.special, torch.Tensor,
)  # fmt: skip
"""Modules and classes whose functions all players call."""

_OURS = ("arena.", "agents.", "envs.")

_WHOLE = (*_OURS, "torch.nn.modules.", "torch.optim.")
"""Packages that are held with all their modules and classes, as far as they are loaded."""

_TORCH_FOLDER = os.path.dirname(torch.__file__) + os.sep


@dataclass(frozen=True, slots=True)
class SharedCode:
    """A snapshot.

    Attributes:
        names: what modules and classes hold, by owner and name.
        hooks: of all networks and optimizers, by the name of torch's table and their number.
        modes: how many function modes and how many dispatch modes are on.
    """

    names: dict[Any, dict[str, object]]
    hooks: dict[str, dict[int, object]]
    modes: tuple[int, int]

    @classmethod
    def capture(cls) -> "SharedCode":
        """Take a snapshot."""
        names = {owner: dict(vars(owner)) for owner in _owners()}
        del names[torch]["Storage"]  # follows the default dtype, which is a setting
        return cls(names, {name: dict(table) for name, table in _hooks().items()}, _modes())

    def changes_since(self, before: "SharedCode") -> list[str]:
        """Name what is no longer as it was `before`."""
        found = [f"{_name(owner)}.{name}" for owner, name in self._replaced(before)]
        found += [f"hooks {name}" for name in self.hooks if self.hooks[name] != before.hooks[name]]
        kinds = ("function", "dispatch")
        found += [
            f"{kind} modes of torch"
            for kind, now, then in zip(kinds, self.modes, before.modes, strict=True)
            if now > then
        ]
        return found

    def restore(self) -> None:
        """Set everything back."""
        for pop, now, then in zip(
            (_pop_function_mode, _pop_mode), _modes(), self.modes, strict=True
        ):
            for _ in range(now - then):
                pop()
        for name, table in _hooks().items():
            table.clear()
            table.update(self.hooks[name])
        for owner, name in SharedCode.capture()._replaced(self):
            if name in self.names[owner]:
                setattr(owner, name, self.names[owner][name])
            else:
                delattr(owner, name)

    def _replaced(self, before: "SharedCode") -> list[tuple[Any, str]]:
        """Find functions that are others than `before`, and methods that are new."""
        found = []
        for owner, then in before.names.items():
            now = self.names.get(owner) or vars(owner)  # its module may no longer be imported
            # a module gets new functions when a part of it is loaded
            names = {**then, **now} if owner is torch.Tensor or owner is torch.nn.Module else then
            found += [
                (owner, name)
                for name in names
                if now.get(name) is not then.get(name)
                and (
                    _is_code(then.get(name), now.get(name), name)
                    or _is_constant(owner, name, then.get(name))
                )
            ]
        return found


def _owners() -> Iterator[Any]:
    yield from _LIBRARIES
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and f"{name}.".startswith(_WHOLE):
            yield module
            for value in list(vars(module).values()):
                if isinstance(value, type) and value.__module__ == name:
                    yield value


def _is_code(then: object, now: object, name: str) -> bool:
    """Whether a function or a class was replaced, or is new, by somebody else than torch."""
    kinds = (classmethod, staticmethod, property, ModuleType)
    one = now if then is None else then
    return (callable(one) or isinstance(one, kinds)) and not _is_own(now, name)


def _is_constant(owner: Any, name: str, then: object) -> bool:
    """Whether a value of ours cannot change but by being replaced, which our own code does not."""
    kinds = (bool, int, float, str, bytes, tuple, frozenset)
    module = getattr(owner, "__module__", None) or getattr(owner, "__name__", "")
    return f"{module}.".startswith(_OURS) and isinstance(then, kinds) and not name.startswith("__")


def _hooks() -> dict[str, MutableMapping[int, Any]]:
    """List torch's tables of what is called for every network and every optimizer."""
    return {
        name: table
        for module in ("torch.nn.modules.module", "torch.optim.optimizer")
        for name, table in vars(sys.modules[module]).items()
        if name.startswith("_global_") and isinstance(table, dict)
    }


def _modes() -> tuple[int, int]:
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()


def _pop_function_mode() -> None:
    torch._C._pop_torch_function_stack()


def _is_own(function: object, name: str) -> bool:
    """Whether torch itself put its function of this name there, as when it loads its compiler."""
    code = getattr(function, "__code__", None)
    return (
        code is not None
        and getattr(function, "__name__", "") == name
        and code.co_filename.startswith(_TORCH_FOLDER)
    )


def _name(owner: Any) -> str:
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}"
    return str(getattr(owner, "__name__", owner))
