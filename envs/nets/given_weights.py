"""Weights that are given: a file that holds all of a network, and nothing of another one."""

from pathlib import Path

import torch
from torch import nn

from envs.errors import DataMissing, ScenarioError
from envs.loading.imports import is_model_file
from envs.nets.network_adapter import OwnNetwork
from envs.nets.staged import Staged
from envs.nets.user_networks import short_name
from envs.nets.weights import State, read

_COUNTER = "num_batches_tracked"  # of batch normalisation; read by nothing, and often left out


def require_weights(path: Path, where: str) -> None:
    """Check that a file of weights is there.

    Raises:
        DataMissing: it is not; `where` is the key that names it.
    """
    if not path.is_file():
        raise DataMissing(f"{where}: no file {path}; expected a state dict or safetensors file")


def take_weights(network: Staged, path: Path) -> None:
    """Fill a network with the weights of a file, all of them and no others.

    Args:
        network: one of ours by its own names, normalisation included, or one of others by the names
            that its code gives them.
        path: a safetensors file or a state dict.

    Raises:
        DataMissing: the file cannot be read, or holds the weights of another network.
        ScenarioError: the network does not answer finite logits with them.
    """
    require_weights(path, "weights")
    name = short_name(network.plan.architecture)
    if is_model_file(network.plan.architecture):
        raise ScenarioError(f"weights: '{name}' holds its own; leave 'weights' out")
    if isinstance(network, OwnNetwork):
        _fill(network.adapted.body, path, name)
        network.try_out()
    else:
        _fill(network, path, name)


def _fill(body: nn.Module, path: Path, name: str) -> None:
    # training on several devices puts "module." before every name
    state = {key.removeprefix("module."): tensor for key, tensor in read(path).items()}
    if fault := _difference(body.state_dict(), state):
        raise DataMissing(f"{path} is not for '{name}': {fault}")
    body.load_state_dict(state, strict=False)


def _difference(own: State, state: State) -> str:
    """Say what a file has or lacks that the network does not; "" where they match."""
    missing = {key for key in own.keys() - state.keys() if not key.endswith(_COUNTER)}
    if missing:
        return f"it has no '{min(missing)}'"
    if strange := state.keys() - own.keys():
        return f"the network has no '{min(strange)}'"
    for key, tensor in state.items():
        if tensor.shape != own[key].shape:
            return f"its '{key}' is {tuple(tensor.shape)}, the network's {tuple(own[key].shape)}"
        if not bool(torch.isfinite(tensor).all()):
            return f"its '{key}' holds NaN or infinity"
    return ""
