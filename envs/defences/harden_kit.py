"""What a defender owns before the game starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch

from envs.data.images import ImageSet, Splits
from envs.nets.exit_cost import ExitProfile
from envs.seeding import Streams
from envs.training.checkpoint_file import JSON


@dataclass(frozen=True, eq=False)
class HardenKit:
    """What a defender owns before the game starts.

    Args:
        data: the victim's own `train` and `validation` images; the other parts are emptied here.
        streams: random streams of the hardening, named by the consumer.
        device: where networks are trained.
        victim_key: what the victim was made from, to key caches of what is made from it.
        sources: digests of the files of data sets that the defence names, likewise.
        load_pool: gives an image set by name, at the victim's image shape; what is drawn at random
            is drawn from its keyword `generator`.
        report: takes one line of progress.
        expected: gives the modelled seconds of each exit, headroom for noise included; none where
            time is really measured, or nobody sees it.
    """

    data: Splits
    streams: Streams
    device: torch.device
    victim_key: Mapping[str, object] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    load_pool: Callable[..., ImageSet] | None = None
    report: Callable[[str], None] = lambda line: None
    expected: Callable[[ExitProfile], tuple[float, ...]] | None = None

    def __post_init__(self) -> None:
        """Take the held-out images away: a defence serves them and is measured on them."""
        object.__setattr__(self, "data", self.data.of_defender())

    @property
    def cache_key(self) -> Mapping[str, JSON]:
        """The key of the victim and of the files of named data sets; empty without a victim's."""
        victim = cast(Mapping[str, JSON], self.victim_key)
        return {**victim, "sources": dict(self.sources)} if victim and self.sources else victim
