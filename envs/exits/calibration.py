"""Sets exit thresholds on held-out data, to a stated loss of utility.

No out-of-distribution image enters, so that no result on such images was tuned on them. Methods are
compared at an equal share of early exits, as detectors are at an equal false-positive rate.

Every second held-out image sets the thresholds of each share; the others prove the loss. A bound
computed from the images that chose the thresholds would be too low.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.data.images import ImageSet
from envs.errors import ScenarioError
from envs.exits.rules import Thresholds, from_log_odds, log_odds
from envs.nets.multi_exit import MultiExit

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_STEPS = 100  # shares that are tried, in rising order


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds, and what they cost on the held-out images that did not set them.

    Attributes:
        log_odds: thresholds in nats, one per early exit; they need not increase.
        budget: share of in-distribution images that was allowed to leave early.
        early_share: share of the proving images that does leave early.
        harm: proving images that the last exit gets right and the served answer wrong.
        harm_bound: one-sided upper confidence limit of the share of harmed images.
        count: proving images, half of the held-out ones.
    """

    log_odds: tuple[float, ...]
    budget: float
    early_share: float
    harm: int
    harm_bound: float
    count: int

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds as confidences; near 1 they lose digits that `log_odds` keeps."""
        return tuple(from_log_odds(value) for value in self.log_odds)

    def rule(self) -> Thresholds:
        """Return the exit rule with these thresholds."""
        return Thresholds.from_log_odds(self.log_odds)


def calibrate(
    scores: Tensor,
    correct: Tensor,
    *,
    early_budget: float = 0.05,
    tolerance: float = 0.005,
    confidence: float = 0.95,
    most_saving: bool = False,
) -> Calibration:
    """Choose thresholds for the largest early share that keeps the loss of utility in bounds.

    Every early exit lets the same share of the images that reach it leave, the most confident
    ones. The total share is the budget, or less where the bound on harm asks for it: shares are
    tried in rising order, in hundredths of the budget, up to the first whose bound is too high.

    Args:
        scores: (N-1, n) log-odds of the early exits on held-out in-distribution images, n at
            least 2, in an order that has nothing to do with them.
        correct: (N, n) bool, whether each exit is right, the last one included.
        early_budget: share of these images that may leave early, 0 to 1.
        tolerance: share that may turn from right to wrong, 0 to 1.
        confidence: of the bound on that share, one-sided.
        most_saving: ignore the budget; find the largest share the tolerance allows.

    Raises:
        ScenarioError: so few images that not even zero harm could prove the tolerance.
        ValueError: shapes that do not fit, or a share outside its range.

    Notes:
        The images at even places set the thresholds of every share, those at odd places prove.
        A sequence of tests in a fixed order, up to the first that fails, keeps its confidence
        without a correction.

    Source:
        Clopper and Pearson 1934 for the bound; Angelopoulos et al. 2021, Learn then test,
        arXiv:2110.01052, for the order; equal shares per exit are the project's choice.
    """
    values, right = _as_arrays(scores, correct)
    for name, share in (("early_budget", early_budget), ("tolerance", tolerance)):
        if not 0 <= share <= 1:
            raise ValueError(f"expected {name} in [0, 1], got {share}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence inside (0, 1), got {confidence}")
    _require_enough(right.shape[1], tolerance, confidence)
    most = 1.0 if most_saving else early_budget
    best = _at_budget(values, right, 0.0, confidence=confidence)
    # a tolerance of all stops at no step
    for step in (_STEPS,) if tolerance >= 1 else range(1, _STEPS + 1):
        trial = _at_budget(values, right, most * step / _STEPS, confidence=confidence)
        if trial.harm_bound > tolerance:
            break
        best = trial
    return best


def provable_loss(count: int, confidence: float = 0.95) -> float:
    """Return the least loss of utility that so many held-out images prove, none being harmed."""
    return clopper_pearson_upper(0, count // 2, confidence)


def require_held_out(held_out: ImageSet) -> None:
    """Refuse fewer held-out images than thresholds can be set on. Raises ScenarioError."""
    if len(held_out) < 2:
        raise ScenarioError(
            f"thresholds are set on validation images, and '{held_out.name}' has {len(held_out)}; "
            f"give at least 2 (data.params.validation), 2,000 or more if you can"
        )


def calibrate_network(
    network: MultiExit,
    held_out: ImageSet,
    *,
    early_budget: float = 0.05,
    tolerance: float = 0.005,
    confidence: float = 0.95,
    most_saving: bool = False,
    batch: int = 256,
) -> Calibration:
    """Run all exits on held-out images and calibrate.

    Args:
        network: with at least one early exit, on the images' device.
        held_out: images that were neither trained nor tested on; 2,000 or more are advised.
        early_budget: as for `calibrate`.
        tolerance: as for `calibrate`.
        confidence: as for `calibrate`.
        most_saving: as for `calibrate`.
        batch: images run together.

    Raises:
        ScenarioError: fewer than 2 images, or too few to prove the tolerance.
    """
    require_held_out(held_out)
    scores, correct = measure_exits(network, held_out, batch=batch)
    return calibrate(
        scores,
        correct,
        early_budget=early_budget,
        tolerance=tolerance,
        confidence=confidence,
        most_saving=most_saving,
    )


def measure_exits(
    network: MultiExit, images: ImageSet, *, batch: int = 256
) -> tuple[Tensor, Tensor]:
    """Measure every exit on labelled images.

    Returns:
        (N-1, n) float64 log-odds of the early exits, and (N, n) bool, whether each exit is right.
    """
    scores, correct = [], []
    training = network.training
    network.eval()
    with torch.inference_mode():
        for inputs, labels in images.batches(batch):
            logits = network.forward_all(inputs)  # (N, m, K)
            correct.append((logits.argmax(2) == labels).cpu())
            scores.append(torch.stack([log_odds(exit_logits) for exit_logits in logits])[:-1].cpu())
    network.train(training)
    return torch.cat(scores, 1), torch.cat(correct, 1)


def clopper_pearson_upper(events: int, count: int, confidence: float = 0.95) -> float:
    """Bound a share from above, one-sided and exact, after `events` out of `count`."""
    if events == count:
        return 1.0
    from scipy.special import betaincinv  # slow to load, and needed here alone

    return float(betaincinv(events + 1, count - events, confidence))


def _at_budget(values: Floats, right: Bools, budget: float, *, confidence: float) -> Calibration:
    """Set the thresholds for one early share on one half, and measure them on the other."""
    early = len(values)
    thresholds = _thresholds(values[:, ::2], budget)
    proving = right[:, 1::2]
    count = proving.shape[1]
    passes = np.vstack([values[:, 1::2] > thresholds[:, None], np.ones((1, count), dtype=bool)])
    exits = passes.argmax(0)
    harm = int((proving[-1] & ~proving[exits, np.arange(count)]).sum())
    # an early exit that never fires harms nobody: nothing to estimate
    bound = 0.0 if budget == 0 else clopper_pearson_upper(harm, count, confidence)
    return Calibration(
        log_odds=tuple(thresholds.tolist()),
        budget=budget,
        early_share=float((exits < early).mean()),
        harm=harm,
        harm_bound=bound,
        count=count,
    )


def _thresholds(values: Floats, budget: float) -> Floats:
    """Return a threshold for each early exit, so that a share of these images leaves early."""
    step = 1.0 if budget >= 1 else -math.expm1(math.log1p(-budget) / len(values))
    inside, thresholds = np.ones(values.shape[1], dtype=bool), []
    for row in values:
        thresholds.append(_upper_quantile(row[inside], step))
        inside &= row <= thresholds[-1]
    return np.array(thresholds)


def _upper_quantile(scores: Floats, share: float) -> float:
    """Find a threshold above which lie at most `share` of the scores, and as many as possible.

    It lies between two scores, so that rounding in another batch or device moves nobody.
    """
    if share >= 1:
        return -math.inf
    count = int(share * len(scores) + 1e-9)
    if share <= 0 or len(scores) == 0:
        return math.inf
    ordered = np.sort(scores)
    below = ordered[-count - 1]
    # with ties the scores equal to `below` stay, and the next larger one is further up
    above = ordered[np.searchsorted(ordered, below, side="right") :]
    return float((below + above[0]) / 2) if len(above) else float(below)


def _as_arrays(scores: Tensor, correct: Tensor) -> tuple[Floats, Bools]:
    fits = scores.ndim == 2 and correct.shape == (len(scores) + 1, scores.shape[1])
    if not fits or not len(scores) or scores.shape[1] < 2:
        raise ValueError(
            f"expected scores (N-1, n) of at least one early exit and correct (N, n), n >= 2, got "
            f"{tuple(scores.shape)} and {tuple(correct.shape)}"
        )
    return scores.double().cpu().numpy(), correct.bool().cpu().numpy()


def _require_enough(count: int, tolerance: float, confidence: float) -> None:
    """Refuse a held-out set whose second half could not prove the tolerance without any harm."""
    if tolerance == 0 or provable_loss(count, confidence) <= tolerance:
        return
    needed = 2 * math.ceil(math.log(1 - confidence) / math.log1p(-tolerance))
    raise ScenarioError(
        f"{count} held-out images cannot prove a loss of accuracy below {tolerance:g} at "
        f"{confidence:.0%} confidence, because half of them set the thresholds; hold out at "
        f"least {needed} or raise the tolerance"
    )
