"""Turns times and answers into what an attacker believes about the victim's construction."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from agents.base import ArchitectureGuess
from agents.timing_probe.architecture_match import ExitTimes, Hypothesis
from agents.timing_probe.hidden_width import hidden_width
from agents.timing_probe.kmeans import Floats, Ints
from agents.timing_probe.mixture import ExitCount
from agents.timing_probe.thresholds import ThresholdEstimates, estimate_thresholds

LEAST_PROBES = 60
"""Distinct images below which nothing is said; half a dozen per exit are needed."""

_EVERY_STAGE = 0.8  # belief that heads follow every stage, as published, and no fewer
_COST_TOLERANCE = 0.1
_THRESHOLD_TOLERANCE = 0.01
_SURE = 0.999  # of an answer's exit before it may lower a threshold
_SLOW = 1.5  # times the median of its exit

V = TypeVar("V", bound=Hashable)


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """What the probes brought to light.

    Attributes:
        count: of the exits.
        times: seconds of the exits; of a rough clock, those of an idle server.
        hypotheses: networks, the likeliest first; empty where two exits or fewer answered.
        thresholds: of the early exits; None on hard labels, or with too few answers.
        widths: rank of the answers of each exit, None where not identifiable; empty on hard labels.
        probes: distinct images.
        held: whether answers seem to wait for one moment, behind which any number of exits hides.
        coarse: whether the clock shows only multiples of a step, whatever the exits take.
        unsettled: whether a request was refused before repeats on a rough clock agreed.
        delayed: whether an exit may be answers that something held up by chance.
    """

    count: ExitCount
    times: ExitTimes
    hypotheses: Sequence[Hypothesis]
    thresholds: ThresholdEstimates | None
    widths: tuple[int | None, ...]
    probes: int
    held: bool = False
    coarse: bool = False
    unsettled: bool = False
    delayed: bool = False

    @property
    def certainty(self) -> float:
        """Belief in the count of exits, on which everything else rests.

        Times that no known network takes may be no exits' at all: padding leaves such.
        """
        strange = sum(one.probability for one in self.hypotheses if one.candidate is None) > 0.5
        few = self.probes < LEAST_PROBES
        doubts = (few, self.held, strange, self.coarse, self.unsettled, self.delayed)
        return self.count.confidence * 0.5 ** sum(doubts)

    def share(self, key: Callable[[Hypothesis], V | None]) -> dict[V, float]:
        """Sum the probabilities of the hypotheses by something they say; unlisted ones say None."""
        total: dict[V, float] = {}
        for hypothesis in self.hypotheses:
            if hypothesis.candidate is not None and (value := key(hypothesis)) is not None:
                # by rounding they may come to more than 1
                total[value] = min(1.0, total.get(value, 0.0) + hypothesis.probability)
        return total

    @property
    def architectures(self) -> dict[str, float]:
        """Probabilities of the networks by name, the likeliest first."""
        found = self.share(lambda h: h.candidate.architecture if h.candidate else None)
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def exit_times_of(count: ExitCount, probes: int) -> ExitTimes:
    """Return the seconds of the exits and how well they are known."""
    answers = (count.peaks.weights * probes).clip(min=1)
    seconds: Floats = torch.from_numpy(count.peaks.means).exp().numpy()
    return ExitTimes(seconds, count.peaks.deviations / answers**0.5)


def idle_exit_times(logs: Floats, exits: Ints) -> ExitTimes:
    """Return the seconds of the exits as an idle server would take, and how well they are known.

    Others at work slow all exits by one factor, on average. The shallowest exit tells it: one of
    its many short answers was not disturbed.

    Args:
        logs: (n, repeats) log-times.
        exits: (n,) of each image, from 0 on; -1 for a stray. An exit without images is left out.
    """
    seconds = np.exp(logs).mean(1)
    seen = [exit_ for exit_ in np.unique(exits) if exit_ >= 0] or [-1]
    groups = [_undisturbed(seconds[exits == exit_]) for exit_ in seen]
    means = np.asarray([group.mean() for group in groups])
    errors = [group.std() / math.sqrt(len(group)) / group.mean() for group in groups]
    load = means[0] / np.exp(logs[exits == seen[0]]).min()
    return ExitTimes(means / load, np.asarray(errors))


def _undisturbed(seconds: Floats) -> Floats:
    """Leave out images that are always slow."""
    return seconds[seconds < _SLOW * np.median(seconds)]


def read_answers(
    count: ExitCount, times: Floats, posteriors: Tensor
) -> tuple[ThresholdEstimates | None, tuple[int | None, ...]]:
    """Group soft answers by their times and read each group.

    Args:
        count: of the exits.
        times: (n,) log-times.
        posteriors: (n, K).

    Returns:
        ThresholdEstimates of the early exits, and the width behind each exit.
    """
    labels, certainty = (
        torch.from_numpy(part).to(posteriors.device) for part in count.assign(times)
    )
    sure = labels.masked_fill(certainty < _SURE, -1)
    widths = tuple(hidden_width(posteriors[sure == e]) for e in range(count.exits))
    return estimate_thresholds(posteriors, sure, count.exits), widths


def guess(evidence: Evidence, *, least: float, absolute: bool) -> ArchitectureGuess:
    """Say what is believed with a confidence of at least `least`, and "unknown" of the rest.

    Args:
        evidence: what was found.
        least: 0 to 1.
        absolute: whether the server's speed was known, without which times tell no width.
    """
    beliefs: dict[str, tuple[Any, float]] = {  # Any: attributes differ in type
        "exits_visited": (evidence.count.exits, 1.0),
        "family": _likeliest(evidence.share(lambda h: h.candidate.family if h.candidate else None)),
        "architecture": _likeliest(evidence.architectures),
        "depth": _likeliest(evidence.share(lambda h: h.candidate.depth if h.candidate else None)),
        "exits": _existing(evidence),
        "exit_costs": _costs(evidence.hypotheses),
        "thresholds": _thresholds(evidence.thresholds),
        "width": _width(evidence, absolute=absolute),
    }
    sure = evidence.certainty
    stated = {
        name: (value, belief * sure)
        for name, (value, belief) in beliefs.items()
        if value is not None and belief * sure >= least
    }
    return ArchitectureGuess(
        **{name: value for name, (value, _) in stated.items()},
        confidence={name: belief for name, (_, belief) in stated.items()},
    )


def _likeliest(shares: dict[V, float]) -> tuple[V | None, float]:
    return max(shares.items(), key=lambda item: item[1], default=(None, 0.0))


def _existing(evidence: Evidence) -> tuple[int | None, float]:
    exits, belief = _likeliest(evidence.share(lambda h: h.candidate.exits if h.candidate else None))
    return exits, belief * _EVERY_STAGE


def _costs(hypotheses: Sequence[Hypothesis]) -> tuple[tuple[float, ...] | None, float]:
    """Average the relative costs, and weigh who agrees with the average."""
    known = [hypothesis for hypothesis in hypotheses if hypothesis.candidate is not None]
    total = sum(hypothesis.probability for hypothesis in known)
    if not total:
        return None, 0.0
    columns = zip(*(hypothesis.costs for hypothesis in known), strict=True)
    weights = [hypothesis.probability / total for hypothesis in known]
    mean = tuple(sum(w * c for w, c in zip(weights, column, strict=True)) for column in columns)
    agreeing = sum(
        hypothesis.probability
        for hypothesis in known
        if all(abs(c - m) <= _COST_TOLERANCE for c, m in zip(hypothesis.costs, mean, strict=True))
    )
    return mean, agreeing


def _thresholds(found: ThresholdEstimates | None) -> tuple[tuple[float, ...] | None, float]:
    if found is None:
        return None, 0.0
    excess = torch.tensor(found.excess, dtype=torch.float64).clamp_min(1e-12)
    return found.values, float((1 - (-_THRESHOLD_TOLERANCE / excess).exp()).prod())


def _width(evidence: Evidence, *, absolute: bool) -> tuple[int | None, float]:
    """Scale the likeliest network to the width that the rank of the deepest answers shows."""
    if absolute:
        return _likeliest(evidence.share(lambda h: h.candidate.width if h.candidate else None))
    rank = evidence.widths[-1] if evidence.widths else None
    if rank is None:
        return None, 0.0

    def scaled(hypothesis: Hypothesis) -> int | None:
        candidate = hypothesis.candidate
        if candidate is None or hypothesis.visited[-1] != candidate.exits - 1:
            return None
        width = candidate.width * rank / candidate.final_width
        return int(width) if width == int(width) else None

    return _likeliest(evidence.share(scaled))
