"""Tells what changed in an object that is too large to be saved whole."""

from collections.abc import Mapping

import torch
from torch import Tensor


class ChangedAttributes:
    """Tells which attributes of an object changed since it was made.

    Defences keep their networks in attributes; only what moves while they serve has to be saved.
    Noticed are attributes bound anew, tensors changed in place, and every container.
    """

    def __init__(self, thing: object) -> None:
        self._thing = thing
        self._then = {name: _mark(value) for name, value in vars(thing).items()}
        # kept alive, or an address might be given to another object
        self._held = list(vars(thing).values())

    def changed(self) -> dict[str, object]:
        """Return the attributes that changed, by name."""
        return {
            name: value
            for name, value in vars(self._thing).items()
            if isinstance(value, dict | list | set) or self._then.get(name) != _mark(value)
        }

    def put_back(self, values: Mapping[str, object]) -> None:
        """Set attributes to what they were."""
        for name, value in values.items():
            setattr(self._thing, name, value)


def _mark(value: object) -> object:
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    version = value._version if isinstance(value, Tensor) and not value.is_inference() else 0
    return id(value), version
