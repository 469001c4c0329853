"""Sets up a victim elsewhere: reaches it, and puts answer-only defences in front of it."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from arena.http.connecting import RemoteSettings, connect
from arena.http.remote_victim import RemoteVictim
from arena.log.writer import EpisodeWriter
from arena.registry import players
from arena.scenario import EpisodePlan
from envs.data.images import Splits
from envs.defences.base import Defence, DeployedDefence, require_answers_only
from envs.defences.harden_kit import HardenKit
from envs.seeding import Streams
from envs.types import ThreatModel


def reach(
    plan: EpisodePlan, threat: ThreatModel, device: torch.device, note: Callable[[str], None]
) -> RemoteVictim:
    """Reach the victim of a plan; no image is asked.

    Raises:
        ArenaError: see `arena.http.connecting.connect`.
    """
    settings = RemoteSettings._make(getattr(plan.victim, name) for name in RemoteSettings._fields)
    return connect(settings, threat, device=device, note=note)


def in_front_of(
    victim: RemoteVictim, plan: EpisodePlan, splits: Splits, device: torch.device
) -> tuple[DeployedDefence, ...]:
    """Put the defences of a plan in front of a victim elsewhere.

    Raises:
        ScenarioError: a defence needs more than answers.
    """
    kit = HardenKit(data=splits, streams=Streams(plan.victim_seed).child("harden"), device=device)
    deployed = []
    for brought in plan.defender.defence:
        defence = cast(Defence, players.defences.create(brought.use, brought.params))
        require_answers_only(defence, brought.use)
        defence.harden(victim, kit)
        deployed.append(DeployedDefence(brought.use, defence, victim))
    return tuple(deployed)


def attend(
    victim: RemoteVictim,
    writer: EpisodeWriter,
    tell: Callable[[str], None],
    saved: Mapping[str, Any] | None,
) -> None:
    """Write into an episode's row what its victim charges, before it is asked.

    Args:
        victim: of the episode.
        writer: of the episode's rows.
        tell: takes a line for people.
        saved: the state that the episode goes on from (hence `Any`); None where it begins.
    """
    line = victim.line

    def note(text: str) -> None:
        writer.event("remote-victim", text, queries_used=line.ledger.charged)
        tell(text)

    line.note, line.on_charge = note, writer.charge
    writer.charge(line.ledger.charged)
    if saved is not None and (lost := line.ledger.charged - saved["ledger"]["charged"]):
        note(f"{lost} images that were asked after the save stay charged: a victim elsewhere "
             f"cannot be rewound")  # fmt: skip


def tell_losses(victim: RemoteVictim, writer: EpisodeWriter, *, answered: int) -> None:
    """Write down how many requests failed, and what they cost."""
    charged = victim.line.ledger.charged
    if victim.line.lost or charged != answered:
        writer.event(
            "remote-victim",
            f"{victim.line.lost} requests failed; {charged} images were charged and {answered} "
            f"answered",
            queries_used=charged,
            failed=victim.line.lost,
            charged=charged,
            answered=answered,
        )
