"""Keeps the clone of an episode beside the log, or has the log say why it is not kept."""

from collections.abc import Callable

from torch import nn

from arena.log.writer import EpisodeWriter
from arena.recording.kept_clones import CloneForm, keep_clone
from arena.scenario import EpisodePlan
from envs.errors import LogError, PlayerError
from envs.types import ThreatModel


def write_clone(
    plan: EpisodePlan,
    clone: Callable[[], nn.Module | None],
    own: Callable[[], nn.Module],
    writer: EpisodeWriter,
    *,
    where: str,
    threat: ThreatModel,
    used: int,
    tell: Callable[[str], None],
) -> None:
    """Write the clone that was scored.

    Args:
        plan: tells whether clones are kept, and the scenario's network.
        clone: gives the clone that was scored, from an attacker that may fail at it.
        own: gives the scenario's network, whatever its weights.
        writer: of the episode's rows.
        where: the log.
        threat: of the game.
        used: queries charged so far.
        tell: is told where the clone cannot be kept.
    """
    if not plan.keep:
        return
    form = CloneForm(plan.clone.use, plan.clone.params, threat.num_classes, threat.image_shape)
    try:
        scored = clone()
        assert scored is not None
        row = keep_clone(where, writer.id, scored, own(), form)
    except (LogError, PlayerError) as error:
        writer.event("not-kept", str(error), queries_used=used)
        tell(f"{plan.title}: the clone is not kept: {error}")
        return
    if row is not None:
        writer.artifact(row)
