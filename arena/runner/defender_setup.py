"""Sets a defender up: makes it, and lends it what an owner has."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from agents.base import Defender, DefenderKit
from arena.registry import players
from arena.scenario import EpisodePlan
from envs.data.images import Splits
from envs.defences.base import DeployedDefence
from envs.seeding import Streams
from envs.victim.owned import Owned
from envs.victim.victim import Victim


class DefenderSetup(NamedTuple):
    """A defender with its deployed defences.

    Attributes:
        reference: the undefended victim.
        deployed_defences: the defender's defences, each with the victim it hardened.
        defender: the defender.
        kit: what it was lent.
        seconds: taken by hardening, without defences whose networks all came from the cache; None
            where the victim runs elsewhere.
    """

    reference: Victim
    deployed_defences: tuple[DeployedDefence, ...]
    defender: Defender
    kit: DefenderKit
    seconds: float | None


def with_defender(
    plan: EpisodePlan,
    reference: Victim,
    deployed: Sequence[DeployedDefence],
    splits: Splits,
    *,
    device: torch.device,
    seconds: float | None,
) -> DefenderSetup:
    """Make the defender of a plan, and let it begin.

    Args:
        plan: names it.
        reference: the undefended victim.
        deployed: the defences it brings.
        splits: of which it is lent the owner's.
        device: of its random stream.
        seconds: see `DefenderSetup`.

    Raises:
        ArenaError: as its `begin`.
    """
    defender = players.defenders.create(plan.defender.use, plan.defender.policy)
    assert isinstance(defender, Defender)
    kit = DefenderKit(
        deployed_defences=tuple(one.name for one in deployed),
        generator=Streams(plan.seed).torch("defender", device),
        victim=Owned(reference),
        train=splits.train.copy(),  # what a player writes into them is its own
        validation=splits.validation.copy(),
    )
    defender.begin(kit)
    return DefenderSetup(reference, tuple(deployed), defender, kit, seconds)
