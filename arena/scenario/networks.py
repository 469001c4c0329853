"""Builds networks of others as a trial, before the first episode."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from arena.scenario.contents import of_network
from arena.scenario.schema_parts import NetSpec, VictimSpec

# `Any` in this file: parameters as a scenario gives them.

if TYPE_CHECKING:
    from envs.data.catalog import Form
    from envs.nets.staged import Staged


def is_other(net: NetSpec) -> bool:
    """Tell whether a network is one of others, or one of ours of which more than a name is said."""
    from envs.nets import registry

    said = (net.weights, net.normalise, *_exits(net))
    return registry.is_own(net.use) or any(one is not None for one in said)


def built(net: NetSpec, form: "Form") -> "Staged":
    """Build a network for images of a form, with its weights where their file is there.

    Raises:
        ScenarioError, UnknownName: it cannot be built so; one line.
        DataMissing: its weights are those of another network.
    """
    return _built(net.model_dump_json(), type(net), form, of_network(net))


@lru_cache(maxsize=2)  # a victim and a clone, which are checked more than once; they can be large
def _built(text: str, kind: type[NetSpec], form: "Form", content: str) -> "Staged":
    import torch

    from envs.nets import registry
    from envs.nets.given_weights import take_weights
    from envs.training.victims import with_exits

    net, (image_shape, classes) = kind.model_validate_json(text), form
    params: dict[str, Any] = dict(net.params)
    network = registry.build(
        net.use,
        num_classes=classes,
        image_shape=image_shape,
        generator=torch.Generator().manual_seed(0),
        mean=None if net.normalise is None else net.normalise.mean,
        std=None if net.normalise is None else net.normalise.std,
        **params,
    )
    if net.weights is not None and net.weights.is_file():
        take_weights(network, net.weights)
        network.is_given = True
    return with_exits(network, _exits(net))


def _exits(net: NetSpec) -> tuple[str, ...]:
    return net.exits if isinstance(net, VictimSpec) else ()
