"""Takes the meetings of one defender with several attackers together."""

from collections.abc import Collection, Iterable, Sequence

from arena.analysis.image_sampling import Scored, sampling_variance
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.metrics import measure_of
from arena.analysis.scoreboard import ScoreRow, scored
from arena.log.rows import EpisodeRow


def over_attackers(rows: Iterable[ScoreRow], measure: str) -> Interval | None:
    """Average a measure over the attackers of each seed, then over seeds; None if never taken."""
    rows = list(rows)
    means = list(averaged_over_attackers(rows, measure).values())
    if not means:
        return None
    found = mean_interval(means).widened(sampling_variance(measure, scored(rows)))
    return found.within(*measure_of(measure).bounds)


def averaged_over_attackers(rows: Iterable[ScoreRow], measure: str) -> dict[int, float]:
    """Average a measure over the attackers of each seed."""
    seeds: dict[int, list[float]] = {}
    for row in rows:
        for seed, value in row.by_seed(measure).items():
            seeds.setdefault(seed, []).append(value)
    return {seed: sum(values) / len(values) for seed, values in seeds.items()}


def scored_best(
    rows: Sequence[ScoreRow],
    measure: str = "clone_accuracy",
    *,
    met: Collection[tuple[str, int]] | None = None,
) -> Scored:
    """Give the episode with the highest value of each seed, of meetings on the same images.

    Args:
        rows: the meetings.
        measure: what is compared.
        met: attacks and seeds that count; all where absent.
    """
    found: dict[int, tuple[float, EpisodeRow]] = {}
    for row in rows:
        for seed, value in row.by_seed(measure).items():
            counts = met is None or (row.attack, seed) in met
            if counts and (seed not in found or value > found[seed][0]):
                found[seed] = value, row.episodes[seed]
    return Scored([one for _, one in found.values()], rows[0].images)
