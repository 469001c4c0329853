"""The matrix of what every attacker got from every defender, out of played episodes.

A defender pays for more than stolen accuracy. What benign users lose and what answers cost can be
given a price; they are then part of what the defender wants to keep low. The attacker is taken to
want the same sum, which is the defender's worst case.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from arena.analysis.equilibrium import Equilibrium, Floats, exploitability, solve, value_interval
from arena.analysis.games import Game
from arena.analysis.image_sampling import Scored, sampling_variance
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.scoreboard import ScoreRow
from envs.errors import ArenaError


@dataclass(frozen=True, slots=True)
class Prices:
    """What a defender pays, in clone accuracy.

    Attributes:
        utility: for each share of accuracy that benign users lose.
        compute: for the compute of a benign query, as a share of the whole network.
    """

    utility: float = 0.0
    compute: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class PayoffMatrix:
    """What each attacker got from each defender, seed by seed.

    Attributes:
        attackers, defenders: their names, in the order of play.
        seeds: those on which all of them met.
        values: (seeds, attackers, defenders).
        variances: (attackers, defenders), what the test images add to the variance of each mean.
        bounds: what no payoff can leave.
    """

    attackers: tuple[str, ...]
    defenders: tuple[str, ...]
    seeds: tuple[int, ...]
    values: Floats
    variances: Floats
    bounds: tuple[float, float]

    @property
    def means(self) -> Floats:
        """(attackers, defenders), over the seeds."""
        return np.asarray(self.values.mean(0))

    def cell(self, attacker: int, defender: int) -> Interval:
        """Give the mean of one meeting with its t interval."""
        found = mean_interval(self.values[:, attacker, defender].tolist())
        return found.widened(float(self.variances[attacker, defender])).within(*self.bounds)


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """What follows from a payoff matrix.

    Attributes:
        equilibrium: what either side should bring.
        value: of the game, with its interval over seeds.
        worst: (defenders,) what each defender gives its best attacker.
        exploitability: (defenders,) how much more that is than the value.
    """

    equilibrium: Equilibrium
    value: Interval
    worst: Floats
    exploitability: Floats


def payoff_games(
    board: Sequence[ScoreRow], prices: Prices
) -> tuple[dict[Game, PayoffMatrix], tuple[str, ...]]:
    """Put each game of a scoreboard into a matrix: its settings are no player's choice.

    Returns:
        the matrices, and a line for each game that has none.

    Raises:
        ArenaError: no game has one; says why, as `payoff_matrix`.
    """
    games = dict.fromkeys(row.game for row in board)
    matrices, left_out, last = {}, [], ArenaError("no successful play to make a game of")
    for game in games:
        try:
            matrices[game] = payoff_matrix([row for row in board if row.game == game], prices)
        except ArenaError as fault:
            left_out.append(f"{game.title}: {fault}")
            last = fault
    if not matrices:
        raise last if len(games) < 2 else ArenaError("; ".join(left_out))
    return matrices, tuple(left_out)


def payoff_matrix(rows: Sequence[ScoreRow], prices: Prices) -> PayoffMatrix:
    """Put the rows of one game into a matrix.

    Args:
        rows: of one game.
        prices: what else the defender pays for.

    Raises:
        ArenaError: a meeting that was not played, no common seed, or a measure that was not taken.
    """
    measured = {(row.attack, row.versus): _by_seed(row, prices) for row in rows}
    attackers = tuple(dict.fromkeys(row.attack for row in rows))
    defenders = tuple(dict.fromkeys(row.versus for row in rows))
    missing = [f"{a} against {d}" for a in attackers for d in defenders
               if not measured.get((a, d))]  # fmt: skip
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ArenaError(f"expected a clone accuracy of every meeting; missing: "
                         f"{', '.join(missing[:3])}{more}; play the rest, or leave players out "
                         f"with --attacker and --defender")  # fmt: skip
    seeds = tuple(sorted(set.intersection(*(set(cell) for cell in measured.values()))))
    if not seeds:
        raise ArenaError("the meetings share no seed; play all of them on the same seeds")
    values = [[[measured[a, d][seed] for d in defenders] for a in attackers] for seed in seeds]
    by_names = {(row.attack, row.versus): row.scored_on(seeds) for row in rows}
    variances = [[_variance(by_names[a, d], prices) for d in defenders] for a in attackers]
    return PayoffMatrix(
        attackers,
        defenders,
        seeds,
        np.array(values, dtype=np.float64),
        np.array(variances),
        bounds=(-prices.utility, math.inf if prices.compute else 1 + prices.utility),
    )


def solved(matrix: PayoffMatrix) -> Solution:
    """Solve the mean game, and say how sure its value is and what single defenders lose."""
    means = matrix.means
    equilibrium = solve(means)
    best = equilibrium.attacker
    pure = np.eye(len(matrix.defenders))
    return Solution(
        equilibrium,
        # the same log gives the same interval whenever it is asked
        value_interval(matrix.values, np.random.default_rng(0)).widened(
            float(matrix.variances.max())  # a mixture of meetings on the same images errs no more
        ),
        worst=np.asarray(means.max(0)),
        exploitability=np.array([exploitability(means, best, one) for one in pure]),
    )


def _by_seed(row: ScoreRow, prices: Prices) -> dict[int, float]:
    """Give the payoff on each seed on which everything that has a price was measured."""
    priced = [("clone_accuracy", 1.0), ("utility_loss", prices.utility),
              ("benign_compute_share", prices.compute)]  # fmt: skip
    parts = [(row.by_seed(name), price) for name, price in priced if price]
    seeds = _common(part.keys() for part, _ in parts)
    return {seed: sum(price * part[seed] for part, price in parts) for seed in seeds}


def _variance(scored: Scored, prices: Prices) -> float:
    """Bound what the test images add to a payoff, as if its parts erred together."""
    errors = [math.sqrt(sampling_variance("clone_accuracy", scored))]
    errors.append(prices.utility * math.sqrt(sampling_variance("utility_loss", scored)))
    return sum(errors) ** 2


def _common(keys: Iterable[Iterable[int]]) -> set[int]:
    return set.intersection(*(set(some) for some in keys))
