"""Learns from the slow answers of a multi-exit victim: they come from its last exit."""

import math
from typing import ClassVar, Literal, Unpack

from torch import Tensor

from agents.attackers.dfme import LoopSettings
from agents.attackers.filtering import FilteredDFME
from agents.base import Kit
from agents.timing_probe.mixture import count_exits
from agents.timing_probe.timing_noise import log_times
from envs.oracle import Oracle
from envs.ranges import Amount, Count, Positive
from envs.types import Response


class LatencyFilter(FilteredDFME):
    """Keeps only the answers that took as long as the deepest exit takes.

    A victim that really stops computing answers the sooner the earlier it leaves. Latencies fall
    into groups, the slowest of which is the last exit.

    Args:
        seconds: least latency that is kept; from an earlier phase of a campaign, or else from
            a mixture model of the first latencies, if absent.
        look: answers from which it is estimated, at most a tenth of the budget.
        images: "generator", or "pool" for images of the surrogate pool.
        drop_jumps, **dfme: as for `DFME`.

    Notes:
        Groups are sought among the logarithms of latencies, because noise multiplies. Where the
        answers of a request are sent together, or padded to one time, there is one group and
        nothing is discarded.

    Source:
        Exits from run time: Li et al. 2022, arXiv:2208.11180. That the last exit's answers are
        the undefended ones follows from the exits of Luan et al. 2025, Dynamic Neural Fortresses,
        ICLR; nobody has published the filter.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"soft-labels", "latency"})

    def __init__(
        self,
        *,
        seconds: Amount | None = None,
        look: Count = 1000,
        images: Literal["generator", "pool"] = "generator",
        drop_jumps: Positive | None = None,
        **dfme: Unpack[LoopSettings],
    ) -> None:
        super().__init__(cut=seconds, look=look, images=images, drop_jumps=drop_jumps, **dfme)

    def known(self, kit: Kit) -> float | None:
        """Return the latency from which answers come from the deepest exit, if it was found."""
        found = kit.shared_findings.get("deepest_latency")
        return float(found) if isinstance(found, int | float) else None

    def measure(self, response: Response) -> Tensor:
        """Return the latencies."""
        return response.latency

    def estimate(self, values: Tensor, oracle: Oracle) -> float:
        """Divide the slowest group from the others; 0 where there is one group."""
        if len(values) < 2:
            return 0.0
        cuts = count_exits(log_times(values)).boundaries()
        return math.exp(cuts[-1]) if len(cuts) else 0.0

    def keep(self, images: Tensor, response: Response) -> Tensor | None:
        """Keep the slow answers."""
        assert self.cut is not None
        return response.latency >= self.cut
