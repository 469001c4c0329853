"""Stacks of defences as a scenario writes them: by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from arena import catalog
from envs.defences.base import Defence
from envs.defences.stack import Stack


@dataclass(frozen=True)
class Layer:
    """One defence of a stack.

    Attributes:
        use: its registered name, or path/to/file.py:Class.
        params: its parameters, by name.
    """

    use: str
    params: Mapping[str, object] = field(default_factory=dict)


class NamedStack(Stack):
    """Several defences one behind the other, each at work on what the one before it answers.

    Args:
        layers: names, or tables of `use` and `params`, the first next to the victim.
    """

    def __init__(self, *, layers: tuple[str | Layer, ...]) -> None:
        tables = [Layer(layer) if isinstance(layer, str) else layer for layer in layers]
        super().__init__(
            layers=[cast(Defence, catalog.create("defence", t.use, t.params)) for t in tables]
        )
