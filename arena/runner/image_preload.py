"""Reads the images of a match before its first episode, so that a damaged file is named once."""

from collections.abc import Iterable

import torch

from arena.runner.setup import Setup
from arena.scenario import EpisodePlan
from envs.data.sources import describe


def read_images(setup: Setup, plans: Iterable[EpisodePlan]) -> None:
    """Read each data set and pool that lies in files; the setup keeps the data sets.

    Args:
        setup: of the match.
        plans: the episodes to play.

    Raises:
        DataMissing: a file is not there or is damaged.
        ArenaError: images do not fit together, or are fewer than asked for.
    """
    seen: set[str] = set()
    for plan in plans:
        shape_of = plan.data.model_dump_json()
        for spec in (plan.data, plan.threat.pool, plan.traffic.ood):
            if spec is None or not describe(spec.use).needs:
                continue
            key = f"{shape_of} {spec.model_dump_json()}"
            if key in seen:
                continue
            seen.add(key)
            if spec is plan.data:
                setup.images.splits(plan)
            else:
                setup.images.load_pool(plan, spec, generator=torch.Generator())
