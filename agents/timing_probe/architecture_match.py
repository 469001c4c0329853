"""Names the network whose exits cost what the clock showed.

A server's time is a + o * operations + w * weight bytes + F / rate, none of them negative. What
of it matters is not known, so that several such models are weighed; in each of them the unknown
numbers are integrated out, which charges a model for its freedom: four times are met exactly by
any network if four numbers may be chosen.

The exits that answered may be any of those that exist: every choice of as many exits is weighed.

Notes:
    The specification's posterior is softmax(-chi2 / 2) over a non-negative least-squares fit.
    With four visited exits and four free numbers that is the same for every network; the
    marginal likelihood used here is that figure times the price of the freedom.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agents.timing_probe.candidates import Candidate
from agents.timing_probe.kmeans import Floats, Ints
from agents.timing_probe.own_profile import OwnProfile
from envs.latency.model import DeviceCost

MODEL_ERROR = 0.02
"""Relative error of the model of a server; times measured on real devices fit to 1 to 6 %."""

PROFILE_ERROR = 0.05
"""Relative error of times on a machine like the server's, beyond what its own repeats show."""

_LIKE_MACHINE = 0.5  # deviation of the log of how much slower the server is: mostly within twice
_DECISION = 10.0  # small operations of an exit's "sure enough?", which no profile counts
_TERMS: tuple[tuple[str, ...], ...] = (
    ("macs",),
    ("ops",),
    ("macs", "ops"),
    ("decided",),
    ("macs", "decided"),
    ("macs", "ops", "bytes"),
)
_NO_CONSTANT = 0.1  # weight of the models in which nothing is spent beyond the network
_PRIOR_SPREAD = 1.0  # of a term, in units of the deepest exit's time
_STRANGER_ERROR = 0.15
_FARTHEST = 1e4  # between the times of two exits of one network
_NEGATIVE = -0.02  # a term so far below 0, in units of the deepest exit's time, is refused


@dataclass(frozen=True, eq=False, slots=True)
class ExitTimes:
    """What the clock showed of the exits that answered.

    Attributes:
        seconds: (k,) rising, k at least 1.
        errors: (k,) standard errors, relative to the seconds.
    """

    seconds: Floats
    errors: Floats


class Hypothesis(NamedTuple):
    """A network, and which of its exits answered.

    Attributes:
        candidate: the network; None stands for one that is not in the catalogue.
        visited: indices of the exits that answered.
        probability: of this hypothesis.
        offset: expected seconds that every answer takes whatever its exit.
    """

    candidate: Candidate | None
    visited: tuple[int, ...]
    probability: float
    offset: float

    @property
    def costs(self) -> tuple[float, ...]:
        """Arithmetic of the visited exits relative to the deepest of them."""
        if self.candidate is None:
            return ()
        macs = self.candidate.macs[list(self.visited)]
        return tuple((macs / macs[-1]).tolist())


def match(
    exit_times: ExitTimes,
    catalogue: Sequence[Candidate],
    *,
    hardware: DeviceCost | OwnProfile | None = None,
    model_error: float = MODEL_ERROR,
) -> list[Hypothesis]:
    """Weigh every network of a catalogue against the exit times.

    Half of a network's prior is on all its exits having answered, as far as they can be told
    apart; the other half is spread over all choices of as many exits.

    Args:
        exit_times: what was measured.
        catalogue: the networks thought possible, equally likely beforehand.
        hardware: the server's constants, where the attacker knows them; only the time that is
            spent elsewhere is then unknown. Or the networks' times on the attacker's own machine,
            in the catalogue's order; the server is then as fast, within a factor.
        model_error: relative error of the model of a server.

    Returns:
        Hypotheses, the likeliest first; their probabilities sum to 1.
    """
    if isinstance(hardware, OwnProfile):
        model_error = max(PROFILE_ERROR, hardware.error, model_error)
    variance = exit_times.errors**2 + model_error**2
    found: list[Hypothesis] = [
        _unknown_network(exit_times, exit_times.errors**2 + _STRANGER_ERROR**2)
    ]
    apart = float(exit_times.seconds[-1] / exit_times.seconds[0])
    for number, candidate in enumerate(catalogue if apart < _FARTHEST else ()):
        known = hardware.seconds[number] if isinstance(hardware, OwnProfile) else hardware
        found += _of_network(exit_times, candidate, known, variance=variance)
    top = max(hypothesis.probability for hypothesis in found)
    weights = np.exp([hypothesis.probability - top for hypothesis in found])
    weights /= weights.sum()
    scaled = [
        hypothesis._replace(probability=float(weight))
        for hypothesis, weight in zip(found, weights, strict=True)
    ]
    return sorted(scaled, key=lambda hypothesis: -hypothesis.probability)


def _of_network(
    exit_times: ExitTimes,
    candidate: Candidate,
    hardware: DeviceCost | Floats | None,
    *,
    variance: Floats,
) -> list[Hypothesis]:
    """Return the hypotheses about one network, with log-weights in the place of probabilities."""
    count = len(exit_times.seconds)
    choices = list(itertools.combinations(range(candidate.exits), count))
    if not choices:
        return []
    index = np.asarray(choices, dtype=np.int64)
    if hardware is None:
        log_evidence, offsets = _averaged(exit_times.seconds, candidate, index, variance=variance)
    elif isinstance(hardware, DeviceCost):
        log_evidence, offsets = _on_hardware(
            exit_times.seconds, candidate, index, hardware=hardware, variance=variance
        )
    else:
        log_evidence, offsets = _as_profiled(exit_times.seconds, hardware[index], variance=variance)
    priors = _priors(candidate, choices)
    return [
        Hypothesis(candidate, choice, float(evidence + np.log(prior)), float(offset))
        for choice, evidence, prior, offset in zip(
            choices, log_evidence, priors, offsets, strict=True
        )
        if np.isfinite(evidence)
    ]


def _priors(candidate: Candidate, choices: Sequence[tuple[int, ...]]) -> Floats:
    places = candidate.places
    everywhere = set(places)
    whole = np.asarray([{places[e] for e in choice} == everywhere for choice in choices])
    even = np.full(len(choices), 1 / len(choices))
    return even if not whole.any() else 0.5 * even + 0.5 * whole / whole.sum()


def _columns(candidate: Candidate, index: Ints) -> dict[str, Floats]:
    """Return the (choices, k) costs of the chosen exits by the name of the term."""
    decisions = np.arange(candidate.exits) * _DECISION
    terms = {
        "macs": candidate.macs,
        "ops": candidate.ops,
        "bytes": candidate.weight_bytes,
        "decided": candidate.ops + decisions,
    }
    return {name: values[index] for name, values in terms.items()}


def _averaged(
    seconds: Floats, candidate: Candidate, index: Ints, *, variance: Floats
) -> tuple[Floats, Floats]:
    """Average the evidence of each choice over the models of a server.

    Returns:
        (choices,) log-evidence and expected offset in seconds.
    """
    columns = _columns(candidate, index)
    relative = seconds[-1] / seconds  # a term's share of each time, if it were constant
    logs, offsets = [], []
    for terms, constant in itertools.product(_TERMS, (True, False)):
        design = [columns[name] / columns[name][:, -1:] * relative for name in terms]
        if constant:
            design.append(np.broadcast_to(relative, index.shape))
        log, weights = _evidence(np.stack(design, 2), np.ones(len(seconds)), variance)
        logs.append(log + np.log(1.0 if constant else _NO_CONSTANT))
        offsets.append(weights[:, -1] * seconds[-1] if constant else np.zeros(len(index)))
    stacked = np.stack(logs)  # (models, choices)
    top = stacked.max(0)
    top = np.where(np.isfinite(top), top, 0.0)
    shares = np.exp(stacked - top)
    with np.errstate(divide="ignore"):
        total = top + np.log(shares.mean(0))
    mean = (shares * np.stack(offsets)).sum(0) / np.maximum(shares.sum(0), 1e-300)
    return total, mean


def _on_hardware(
    seconds: Floats, candidate: Candidate, index: Ints, *, hardware: DeviceCost, variance: Floats
) -> tuple[Floats, Floats]:
    """Return the log-evidence of each choice, and its offset, on a server of known constants."""
    columns = _columns(candidate, index)
    served = (
        hardware.per_op * columns["ops"]
        + hardware.per_byte * columns["bytes"]
        + 2 * columns["macs"] / hardware.flops_per_second
    )
    design = np.broadcast_to((seconds[-1] / seconds)[:, None], (*index.shape, 1))
    log, weights = _evidence(design, 1 - served / seconds, variance)
    return log, weights[:, 0] * seconds[-1]


def _as_profiled(seconds: Floats, own: Floats, *, variance: Floats) -> tuple[Floats, Floats]:
    """Return the log-evidence of each choice, and its offset, by times of another machine.

    Args:
        seconds: (k,) what the server's clock showed.
        own: (choices, k) what the attacker's machine takes to the chosen exits.
        variance: (k,) of the seconds, relative.
    """
    relative = seconds[-1] / seconds
    design = np.stack([own / own[:, -1:] * relative, np.broadcast_to(relative, own.shape)], 2)
    log, weights = _evidence(design, np.ones(len(seconds)), variance)
    slower = weights[:, 0] * seconds[-1] / own[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.log(slower) / _LIKE_MACHINE
    return np.where(slower > 0, log - 0.5 * far**2, -np.inf), weights[:, 1] * seconds[-1]


def _evidence(design: Floats, target: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Integrate the coefficients of linear models out.

    Args:
        design: (choices, k, terms), in units of the deepest exit's time.
        target: (k,) or (choices, k) what the terms add up to.
        variance: (k,) of the target.

    Returns:
        (choices,) log marginal likelihood under independent normal coefficients, minus infinity
        where one of the fitted ones is negative; (choices, terms) their posterior means.
    """
    terms = design.shape[2]
    weighted = design / variance[:, None]
    precision = np.swapaxes(design, 1, 2) @ weighted + np.eye(terms) / _PRIOR_SPREAD**2
    target = np.broadcast_to(target, design.shape[:2])
    projected = (weighted * target[..., None]).sum(1)  # (choices, terms)
    means = np.linalg.solve(precision, projected[..., None])[..., 0]
    misfit = (target**2 / variance).sum(1) - (projected * means).sum(1)
    volume = np.linalg.slogdet(precision)[1] + 2 * terms * np.log(_PRIOR_SPREAD)
    log = -0.5 * (misfit + volume + np.log(2 * np.pi * variance).sum())
    return np.where((means >= _NEGATIVE).all(1), log, -np.inf), means


def _unknown_network(exit_times: ExitTimes, variance: Floats) -> Hypothesis:
    """Weigh a network that nobody listed: equal steps, met only roughly."""
    count = len(exit_times.seconds)
    relative = exit_times.seconds[-1] / exit_times.seconds
    steps = np.arange(1, count + 1) / count
    design = np.stack([steps * relative, relative], 1)[None]
    log, _ = _evidence(design, np.ones(count), variance)
    return Hypothesis(None, (), float(log[0]), 0.0)
