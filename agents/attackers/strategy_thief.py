"""Copies the exit strategy of a multi-exit victim together with its answers."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from agents.attackers.random_generator import RandomGenerator
from agents.base import ArchitectureGuess, Kit
from agents.learning.clone import Loss
from agents.learning.multi_exit_clone import Gated
from agents.learning.transfer_set import Draws, branch, of_pool
from agents.oracle_wrappers.forwarding import latency_of
from agents.timing_probe.architecture_guess import LEAST_PROBES
from agents.timing_probe.confidence_jumps import first_jump
from agents.timing_probe.mixture import count_exits
from agents.timing_probe.thresholds import are_alike
from agents.timing_probe.timing_noise import has_floor, log_times, step_of_clock
from envs.data.images import bytes_to_unit
from envs.errors import ScenarioError
from envs.nets.staged import Staged
from envs.oracle import Oracle
from envs.ranges import Amount, Count, Positive
from envs.types import Response

_LEAST = 0.6  # belief in the number of exits from which it is stated; below, it is unknown
_STRAY = 0.01  # share of an exit's answers that may have been taken for its own by mistake


class StrategyThief(RandomGenerator):
    """Copies a multi-exit victim exit by exit, and reports its thresholds.

    First it looks at some answers. With a visible latency a mixture model divides them into
    exits; without one the jump in the density of confidences tells early answers from late
    ones. The clone gets as many exits, and gates: each answer trains the exit it came from, and
    the gates learn to predict that exit. A threshold is the least confidence among the answers
    of its exit. Found thresholds and cuts also go into `kit.shared_findings`.

    Args:
        look: answers that are looked at first, at most a third of the budget.
        images: "generator" (untrained), or "pool" for images of the surrogate pool.
        exit_weight: of the gates' cross-entropy beside the disagreement of the answers.
        batch: images per request.
        clone_steps, clone_rate, epoch_length, loss: as for `RandomGenerator`.

    Notes:
        The published attack picks the thresholds of a clone by an output-strategy loss; here
        gates predict the exit, and the thresholds are read off the answers. A hundredth of the
        answers of an exit may be below its threshold, as strays of their neighbours. Exits and
        thresholds that the clock does not tell apart for certain are left unknown, though the
        clone gets the likeliest of them. A lent clone
        that has no stages gets no exits; then thresholds are all that is stolen.

    Source:
        Pan et al. 2023, Stealing the output strategy of multi-exit networks, arXiv:2305.13584;
        exits from run time: Li et al. 2022, arXiv:2208.11180.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"soft-labels"})

    def __init__(
        self,
        *,
        look: Count = 2000,
        images: Literal["generator", "pool"] = "generator",
        exit_weight: Amount = 1.0,
        batch: Count | None = None,
        clone_steps: Count | None = None,
        clone_rate: Positive | None = None,
        epoch_length: Count | None = None,
        loss: Loss = "auto",
    ) -> None:
        if images not in ("generator", "pool") or look < 1 or exit_weight < 0:
            raise ScenarioError(
                f"expected images 'generator' or 'pool', look of at least 1 and exit_weight of "
                f"at least 0, got '{images}', {look} and {exit_weight}"
            )
        super().__init__(
            batch=batch,
            clone_steps=clone_steps,
            clone_rate=clone_rate,
            epoch_length=epoch_length,
            loss=loss,
        )
        self._look, self._images, self._exit_weight = look, images, exit_weight
        self._cuts: list[float] = []
        self._belief = 1.0  # in what the clock tells; confidences have a test of their own
        if images == "pool":
            # what it needs depends on what it is told
            self.requires = self.requires | {"pool"}  # type: ignore[misc]

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Get ready to look at the first answers."""
        self._by_time = oracle.threat.latency_visible
        self._draws = (
            Draws(len(kit.pool), branch(kit.generator)) if self._images == "pool" else None
        )
        self._held: list[tuple[Tensor, Response]] | None = []
        self._wanted = min(self._look, max(1, oracle.remaining // 3))
        super().prepare(oracle, kit)

    def finish(self, oracle: Oracle, kit: Kit) -> None:
        """Find the exits at last, where the budget ended before the first look did."""
        super().finish(oracle, kit)
        if self._held is not None:
            self._settle(oracle, kit)

    def build_clone(self, kit: Kit) -> nn.Module:
        """Return a lent clone; it gets exits when it is known how many there are."""
        return kit.new_clone()

    def clone_step(self, oracle: Oracle, kit: Kit, count: int) -> None:
        """Ask images; look at the first answers, learn from all."""
        if self._draws is None:
            images = self.synthesiser.images(count)
        else:
            images = bytes_to_unit(of_pool(kit.pool, self._draws.take(count)))
        response = oracle.query(images)
        if self._held is None:
            self._learn_from(images, response)
            return
        self._held.append((images, response))
        if sum(len(images) for images, _ in self._held) >= self._wanted:
            self._settle(oracle, kit)

    def _settle(self, oracle: Oracle, kit: Kit) -> None:
        """Find the exits among the answers so far, give the clone as many, and learn from them."""
        held, self._held = self._held or [], None
        if not held:
            return
        answers = torch.cat([response.posteriors for _, response in held])
        times = [latency_of(response, oracle.threat) for _, response in held]
        seen = torch.cat([each for each in times if each is not None] or [answers.amax(1)])
        self._cuts = self._find(seen)
        self._report_strategy(answers, self.exits_of(seen), kit)
        self._give_exits(kit)
        for images, response in held:
            self._learn_from(images, response)

    def _find(self, seen: Tensor) -> list[float]:
        """Return the rising cuts between exits: seconds, or the one confidence."""
        if not self._by_time:
            jump = first_jump(seen)
            return [] if jump is None else [jump]
        self._belief = 0.0
        if len(seen) < 2:
            return []
        logs = log_times(seen)
        count = count_exits(logs)
        self._belief = count.confidence * 0.5 ** sum(
            (
                len(seen) < LEAST_PROBES,
                count.exits == 1 and has_floor(logs),
                step_of_clock(logs) > 0,
            )
        )
        return [float(cut) for cut in torch.from_numpy(count.boundaries()).exp()]

    def exits_of(self, seen: Tensor) -> Tensor:
        """Assign (n,) answers to exits by their seconds, or by their confidences."""
        cuts = torch.tensor(self._cuts, dtype=torch.float64, device=seen.device)
        above = torch.bucketize(seen.double(), cuts)
        # the confident ones left first, the quick ones as well
        return above if self._by_time else len(self._cuts) - above

    def _report_strategy(self, answers: Tensor, exits: Tensor, kit: Kit) -> None:
        count, told = len(self._cuts) + 1, self._belief >= _LEAST
        groups = [answers[exits.to(answers.device) == e].amax(1).double() for e in range(count - 1)]
        groups = [group for group in groups if len(group)]
        limits = told and not any(map(are_alike, groups))
        thresholds = [float(group.quantile(_STRAY if self._by_time else 0.0)) for group in groups]
        if not self._by_time and self._cuts:
            thresholds = list(self._cuts)
        self.inferred = ArchitectureGuess(
            exits_visited=count if self._by_time and told else None,
            thresholds=tuple(thresholds) if thresholds and limits else None,
            confidence={"exits_visited": self._belief} if self._by_time and told else {},
        )
        if thresholds:
            kit.shared_findings["thresholds"] = tuple(thresholds)
        if self._by_time:
            kit.shared_findings["latency_cuts"] = tuple(self._cuts)
            kit.shared_findings["deepest_latency"] = self._cuts[-1] if self._cuts else 0.0
        kit.report(exits=float(count))

    def _give_exits(self, kit: Kit) -> None:
        """Put heads and gates on the clone, as far as it has stages for them."""
        if not self._cuts or not isinstance(self.clone, Staged):
            return
        gated = Gated(self.clone, len(self._cuts) + 1, generator=kit.generator)
        group = self.trainer.optimizer.param_groups[0]
        known = {id(p) for p in group["params"]}
        fresh = [p for p in gated.parameters() if id(p) not in known]
        group["params"].extend(fresh)
        self.trainer.clone = self.clone = gated

    def _learn_from(self, images: Tensor, response: Response) -> None:
        targets = response.posteriors.to(images.device)
        if not isinstance(self.clone, Gated):
            self.note("clone_loss", self.learn(images, targets))
            return
        seen = response.latency if self._by_time else response.posteriors.amax(1)
        exits = self.exits_of(seen).to(images.device).clamp_max(self.clone.num_exits - 1)
        gated = self.clone

        def loss() -> Tensor:
            logits, leaving = gated.both(images)
            picked = exits[None, :, None].expand(1, -1, logits.shape[2])
            answers = self.disagreement(logits.gather(0, picked)[0], targets).mean()
            strategy = -leaving.gather(1, exits[:, None]).mean()
            self.note("clone_loss", answers.detach())
            self.note("exit_loss", strategy.detach())
            return answers + self._exit_weight * strategy

        self.trainer.descend(loss, count=len(images))
