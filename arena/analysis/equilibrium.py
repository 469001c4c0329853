"""Solves the game above the games: which attacker and which defender to bring to a match.

A payoff matrix says what an attacker gets from each defender. The attacker wants much, the
defender wants it to be little, and neither knows what the other brings: a zero-sum game in mixed
strategies. Each side's best guarantee is a linear programme, and both guarantees are the same
number, the value of the game.

Source:
    von Neumann 1928, "Zur Theorie der Gesellschaftsspiele"; as linear programmes in Dantzig 1951.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from arena.analysis.intervals import Interval

Floats = NDArray[np.float64]

RESAMPLES = 499
"""Draws of seeds behind an interval; each solves a linear programme."""

_PLAYED = 1e-6
"""A share below this is rounding noise of the solver."""


@dataclass(frozen=True, slots=True, eq=False)
class Equilibrium:
    """A pair of strategies from which neither side gains by departing alone.

    Attributes:
        value: what the attacker gets on average.
        attacker: (attackers,) shares with which it brings each, summing to 1.
        defender: (defenders,) likewise.
    """

    value: float
    attacker: Floats
    defender: Floats


def solve(payoff: Floats) -> Equilibrium:
    """Find an equilibrium of a zero-sum game.

    Where there are several, any one may be returned; their value is the same.

    Args:
        payoff: (attackers, defenders), what the attacker gets; finite.

    Raises:
        ValueError: it has no row, no column, or a value that is not finite.
    """
    _check(payoff)
    attacker, guarantee = _best_guarantee(payoff)
    defender, _ = _best_guarantee(-payoff.T)
    return Equilibrium(guarantee, attacker, defender)


def exploitability(payoff: Floats, attacker: Floats, defender: Floats) -> float:
    """Say how far two strategies are from an equilibrium: 0 there, above 0 elsewhere.

    It is what the attacker could gain by the best answer to the defender's strategy, plus what the
    defender could save by the best answer to the attacker's.

    Args:
        payoff: (attackers, defenders), what the attacker gets.
        attacker: shares with which it brings each, summing to 1.
        defender: likewise.
    """
    return float((payoff @ defender).max() - (attacker @ payoff).min())


def value_interval(
    payoffs: Floats, generator: np.random.Generator, *, confidence: float = 0.95
) -> Interval:
    """Give the value of the mean game and its percentile bootstrap interval over seeds.

    Whole seeds are drawn, so that what the cells of one seed share (the victim) stays together. The
    value of resampled games errs upwards or downwards with the noise in the cells, as any maximum
    of noisy means does; with fewer than about ten seeds the interval is too narrow.

    Args:
        payoffs: (seeds, attackers, defenders).
        generator: draws the seeds.
        confidence: of the interval.

    Raises:
        ValueError: as `solve`.
    """
    value, count = _value(payoffs.mean(0)), len(payoffs)
    if count == 1:
        return Interval(value, None, None, 1, confidence)
    draws = generator.integers(count, size=(RESAMPLES, count))
    values = [_value(payoffs[draw].mean(0)) for draw in draws]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(value, float(low), float(high), count, confidence)


def _value(payoff: Floats) -> float:
    _check(payoff)
    return _best_guarantee(payoff)[1]


def _best_guarantee(payoff: Floats) -> tuple[Floats, float]:
    """Find the row player's shares that guarantee most, and what they guarantee."""
    rows, columns = payoff.shape
    # variables: the shares, then the guarantee; linprog minimises
    found = linprog(
        c=np.append(np.zeros(rows), -1.0),
        A_ub=np.column_stack((-payoff.T, np.ones(columns))),
        b_ub=np.zeros(columns),
        A_eq=np.append(np.ones(rows), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0.0, 1.0)] * rows + [(None, None)],
    )
    assert found.success, found.message  # every finite matrix game has a solution
    shares = np.where(found.x[:-1] > _PLAYED, found.x[:-1], 0.0)
    return shares / shares.sum(), float(found.x[-1])


def _check(payoff: Floats) -> None:
    if payoff.ndim != 2 or 0 in payoff.shape:
        raise ValueError(f"expected a matrix with rows and columns, got shape {payoff.shape}")
    if not np.isfinite(payoff).all():
        raise ValueError("expected finite payoffs, got NaN or infinity")
