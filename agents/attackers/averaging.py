"""Ask everything several times: noise that is new at each query averages away."""

from typing import ClassVar

from agents.attackers.dfme import DFME
from agents.base import Kit
from agents.learning.clone import Loss
from agents.learning.transfer_set import branch
from agents.oracle_wrappers import Combine, Duplicates, Repeated
from envs.errors import ScenarioError
from envs.oracle import Oracle


class Averaging(DFME):
    """DFME that buys several answers to every image, finite differences included.

    It spends exactly `repeats` times the queries of the plain attacker on as many images; up to
    `repeats` - 1 images of the budget are left.

    Args:
        repeats: answers per image, 3 to 10 are usual.
        combine: "mean" of the posteriors, "logit-mean" for noise that was added to log-odds,
            "vote" for labels; against exits drawn afresh "least-confident" or "slowest", which
            needs a visible latency.
        duplicates: "exact"; against noise that is a function of the image "jitter" (values moved
            by up to 1/255) or "shift" (by up to a pixel).
        batch, generator_steps, clone_steps, generator_rate, clone_rate, loss: as for `DFME`.

    Source:
        The smoothing attack of Tang et al. 2024, ModelGuard, USENIX Security; that noise which
        is a function of the image does not average out is Li et al. 2022, arXiv:2208.11180.
    """

    requires: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        repeats: int = 5,
        combine: Combine = "mean",
        duplicates: Duplicates = "exact",
        batch: int | None = None,
        generator_steps: int | None = None,
        clone_steps: int | None = None,
        generator_rate: float | None = None,
        clone_rate: float | None = None,
        loss: Loss = "auto",
    ) -> None:
        if repeats < 1:
            raise ScenarioError(f"expected repeats of at least 1, got {repeats}")
        super().__init__(
            batch=batch,
            generator_steps=generator_steps,
            clone_steps=clone_steps,
            generator_rate=generator_rate,
            clone_rate=clone_rate,
            loss=loss,
        )
        self._repeats, self._combine, self._duplicates = repeats, combine, duplicates
        if combine == "slowest":
            # what it needs depends on what it is told
            self.requires = frozenset({"latency"})  # type: ignore[misc]

    def wrap_oracle(self, oracle: Oracle, kit: Kit) -> Oracle:
        """Return an oracle that asks everything several times."""
        return Repeated(
            oracle,
            self._repeats,
            generator=branch(kit.generator),
            combine=self._combine,
            duplicates=self._duplicates,
        )
