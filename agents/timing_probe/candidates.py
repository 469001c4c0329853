"""The networks an attacker can imagine behind an API, with what each of their exits costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import nn

from agents.timing_probe.kmeans import Floats
from envs.errors import ScenarioError
from envs.nets import registry
from envs.nets.exit_cost import profile
from envs.nets.multi_exit import with_heads
from envs.nets.staged import Staged

SAME_COST = 0.005
"""Exits within half a percent of each other's arithmetic cannot be told apart."""

_PATCH_FAMILIES = frozenset({"vit", "deit", "cait", "swin"})
_LEAST_PATCH_SIDE = 96
"""Nobody serves a transformer on a handful of patches: published ones see 196 and more."""

_LAYOUTS: tuple[dict[str, Any], ...] = ({}, {"exit_every": 2})
# Any: parameters of networks, as a scenario would give them


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """A network with an exit after every stage, and the costs of its exits.

    Attributes:
        architecture, family, depth, width: as `ArchitectureGuess` has them.
        final_width: numbers the last layer answers from.
        macs, ops, weight_bytes: (exits,) cumulative, as in `ExitProfile`.
        layout: parameters of the network beyond its name, which decide where its exits are.
        places: (exits,) which exits differ in arithmetic: equal numbers cannot be told apart.
    """

    architecture: str
    family: str
    depth: int
    width: int
    final_width: int
    macs: Floats
    ops: Floats
    weight_bytes: Floats
    layout: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exits(self) -> int:
        """Exits that exist, the last one included."""
        return len(self.macs)

    @property
    def places(self) -> tuple[int, ...]:
        """Number the exits so that those which cannot be told apart share a number."""
        steps = np.diff(self.macs) > SAME_COST * self.macs[-1]
        return (0, *np.cumsum(steps).tolist())


@lru_cache(maxsize=16)
def candidates(image_shape: tuple[int, int, int], num_classes: int) -> tuple[Candidate, ...]:
    """List every network that can be built for images of a shape.

    Transformers on patches are left out where the images have less than 96 pixels a side. Exits
    are assumed where multi-exit networks of the literature have them: after every stage. ResNets
    stand in the list once more with an exit after every second block, where that differs.
    Counting takes about a second and is remembered.
    """
    found: list[Candidate] = []
    for name in registry.names():
        layouts = _LAYOUTS if "exit_every" in registry.parameters(name) else _LAYOUTS[:1]
        seen: set[tuple[float, ...]] = set()
        for params in layouts:
            try:
                network = registry.outline(
                    name, num_classes=num_classes, image_shape=image_shape, **params
                )
            except ScenarioError:
                continue  # the images are too small for it
            if network.family in _PATCH_FAMILIES and min(image_shape[1:]) < _LEAST_PATCH_SIDE:
                break
            candidate = describe(network, params)
            if (key := tuple(candidate.macs)) not in seen:
                found.append(candidate)
                seen.add(key)
    return tuple(found)


def describe(network: Staged, layout: Mapping[str, Any] = MappingProxyType({})) -> Candidate:
    """Describe a network, an outline will do, as if it had an exit after every stage."""
    costs = profile(with_heads(network))
    family, depth, width = network.family, network.depth, network.width
    assert family is not None
    assert depth is not None
    assert width is not None
    linear = [layer for layer in network.classifier.modules() if isinstance(layer, nn.Linear)]
    return Candidate(
        architecture=network.architecture,
        family=family,
        depth=depth,
        width=width,
        final_width=linear[-1].in_features if linear else network.widths[-1],
        macs=np.asarray(costs.macs, dtype=np.float64),
        ops=np.asarray(costs.ops, dtype=np.float64),
        weight_bytes=np.asarray(costs.weight_bytes, dtype=np.float64),
        layout=layout,
    )
