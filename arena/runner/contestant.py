"""Tells a process of its own who attacks there, and what it starts from."""

from collections.abc import Callable

import torch
from torch import nn

from arena.isolation.attacker import Contestant
from arena.isolation.job import Network, Player
from arena.scenario import EpisodePlan
from arena.system.memory import half_of_memory
from envs.data.images import Normalisation
from envs.loading.imports import is_file_use, split_file_use
from envs.nets import registry


def contestant_of(
    plan: EpisodePlan,
    *,
    new_network: Callable[[], nn.Module],
    clones: torch.Generator,
    normalisation: Normalisation,
    note: Callable[[str], None],
) -> Contestant:
    """Return who attacks in a process of its own, and what is lent to it.

    Args:
        plan: what is played.
        new_network: builds a clone here, whatever its weights.
        clones: the stream that clones are drawn from there.
        normalisation: what a clone subtracts from images and divides them by.
        note: is told what this system cannot keep from that process.
    """
    net, params = plan.clone, dict(plan.clone.params)
    start = registry.start_of(net.use, params)
    files = [] if start is None else [start.path().resolve()]
    if files:
        params["weights"] = str(files[0])
    if net.weights is not None:
        files.append(net.weights.resolve())
    weights = "" if net.weights is None else str(files[-1])
    attacker, memory = plan.attacker, plan.memory_limit
    return Contestant(
        attacker=Player(attacker.use, attacker.params),
        name=attacker.name,
        wrappers=tuple(Player(one.use, one.params) for one in attacker.wrappers),
        clone=Network(_resolved(net.use), params, *normalisation, weights),
        new_network=new_network,
        clones=clones,
        files=files,
        memory=half_of_memory() if memory is None else int(memory * 2**30),
        note=note,
    )


def _resolved(use: str) -> str:
    """Write the file of a `use` as an absolute path; that process works elsewhere."""
    if not is_file_use(use):
        return use
    file, name = split_file_use(use)
    return f"{file.resolve()}:{name}"
