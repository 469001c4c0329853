"""Measures along the budget when an attack began to work, and how well it worked on the whole.

An accuracy is known at checkpoints alone: "by 4,000 queries" means that the checkpoint there was
the first to show it. What no checkpoint of an episode shows took more than its budget, if it ever
comes (the time is censored there).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, repeat
from typing import NamedTuple

from scipy.special import bdtr, bdtrc

from arena.analysis.image_sampling import accuracy_interval, common_denominator, data_of
from arena.analysis.intervals import Interval
from arena.analysis.metrics import chance_level
from arena.analysis.scoreboard import ScoreRow
from arena.analysis.trained import trained_points
from arena.log.rows import CheckpointRow, EpisodeRow

LEVELS = (0.25, 0.5, 0.75, 0.9)
"""Accuracies that are looked for, unless the caller names others."""

LEVEL = 0.05
"""How often, at most, a clone that guesses is taken for better at one of its checkpoints."""

Checkpoints = Mapping[str, Sequence[CheckpointRow]]
"""Those of each episode, by its id."""


class Track(NamedTuple):
    """The measurements of one trained clone along the budget.

    Attributes:
        points: images asked and the accuracy then, ascending; none before it was trained.
        at_end: it was trained at the end of the attack alone, so that no slope is known.
    """

    points: tuple[tuple[int, float], ...]
    at_end: bool

    def reached(self, accuracy: float) -> int | None:
        """Give the images asked at the first checkpoint with this accuracy; None without one."""
        return next((asked for asked, score in self.points if score >= accuracy), None)

    def above_chance(self, chance: float, images: int | None) -> int | None:
        """Give the images asked at the first checkpoint that no guess explains.

        A one-sided binomial test at `LEVEL` divided by the number of checkpoints (Bonferroni).
        None where no checkpoint passes, and where it is unknown how many images were scored.
        """
        if images is None:
            return None
        for asked, score in self.points:
            hits = round(score * images)
            if bdtrc(hits - 1, images, chance) <= LEVEL / len(self.points):
                return asked
        return None

    def area(self, chance: float, budget: int) -> float | None:
        """Average the accuracy over the budget, by straight lines from a guess at no query.

        None where the clone was trained at the end alone: what it would have been before is
        unknown.
        """
        if self.at_end or not self.points or not budget:
            return None
        corners = [(0, chance), *self.points]
        corners.append((max(budget, corners[-1][0]), corners[-1][1]))
        total = sum((b - a) * (up + down) / 2 for (a, down), (b, up) in pairwise(corners))
        return total / corners[-1][0]


def track_of(checkpoints: Sequence[CheckpointRow]) -> Track:
    """Take out the measurements of a trained clone."""
    trained = trained_points(checkpoints)
    points = tuple((row.queries_used, row.clone_accuracy or 0.0) for row in trained)
    return Track(points, len(points) == 1 and len(checkpoints) > 1)


class Delay(NamedTuple):
    """How many queries something took, over seeds.

    Attributes:
        by: images asked, of each seed, ascending; None of a seed in which it never came.
        budget: images that each could ask.
    """

    by: tuple[int | None, ...]
    budget: int

    @property
    def came(self) -> int:
        """In how many seeds it came."""
        return sum(asked is not None for asked in self.by)

    @property
    def median(self) -> int | None:
        """Images by which it had come in half of the seeds; None if it came in fewer."""
        return self.by[(len(self.by) - 1) // 2]

    @property
    def ends(self) -> tuple[int | None, int | None]:
        """The ends of the median's 95% interval, None beyond the budget; see `is_interval`.

        They are order statistics, which assume nothing of the distribution and take a censored
        seed for what it is: later than every other.

        Source:
            Conover 1999, "Practical Nonparametric Statistics", section 3.2.
        """
        n = len(self.by)
        beyond = max(1, next(k for k in range(n + 1) if bdtr(k, n, 0.5) >= 0.025))
        return self.by[beyond - 1], self.by[-beyond]

    @property
    def is_interval(self) -> bool:
        """Whether there are seeds enough for an interval; with fewer the ends are all seeds'."""
        return len(self.by) >= 6


class Learnt(NamedTuple):
    """What one episode's clone came to along the budget; None where that cannot be told.

    Attributes:
        episode: whose it is.
        track: its measurements.
        above_chance: images asked until a checkpoint showed more than a guess.
        area: mean accuracy over the budget.
    """

    episode: EpisodeRow
    track: Track
    above_chance: int | None
    area: float | None


class Learning(NamedTuple):
    """When the clones of a meeting began to be worth something.

    Attributes:
        row: the meeting.
        seeds: each of its episodes, by ascending seed.
        above_chance: until a checkpoint showed more than a guess; None where that cannot be told.
        levels: until each accuracy was reached.
        area: mean accuracy over the budget; None where no slope is known.
        at_end: it trains its clone at the end of the attack alone.
    """

    row: ScoreRow
    seeds: tuple[Learnt, ...]
    above_chance: Delay | None
    levels: Mapping[float, Delay]
    area: Interval | None
    at_end: bool


def learning_of(
    board: Iterable[ScoreRow], checkpoints: Checkpoints, levels: Sequence[float] = LEVELS
) -> list[Learning]:
    """Tell of each meeting whose clones were measured along the budget when they became useful.

    One checkpoint, at the end, tells no more than the final score does.
    """
    board = list(board)
    images = images_of(checkpoints, (e for row in board for e in row.episodes.values()))
    found = []
    for row in board:
        episodes = [row.episodes[seed] for seed in row.seeds]
        if all(len(checkpoints.get(one.id, ())) < 2 for one in episodes):
            continue
        tracks = [track_of(checkpoints.get(one.id, ())) for one in episodes]
        if any(track.points for track in tracks):
            scored = images[data_of(episodes[0])]
            seeds = tuple(map(_learnt, episodes, tracks, repeat(scored)))
            found.append(_learning(row, seeds, levels, scored))
    return found


def images_of(checkpoints: Checkpoints, episodes: Iterable[EpisodeRow]) -> Mapping[str, int | None]:
    """Count the images that clones are measured on along the budget, by `data_of` an episode."""
    scores: dict[str, list[float]] = defaultdict(list)
    for one in episodes:
        scores[data_of(one)] += [
            point.clone_accuracy
            for point in checkpoints.get(one.id, ())
            if point.clone_accuracy is not None
        ]
    return {data: common_denominator(found) for data, found in scores.items()}


def _learnt(episode: EpisodeRow, track: Track, images: int | None) -> Learnt:
    chance = chance_level(episode)
    if chance is None:
        return Learnt(episode, track, None, None)
    area = track.area(chance, episode.budget)
    return Learnt(episode, track, track.above_chance(chance, images), area)


def _learning(
    row: ScoreRow, seeds: tuple[Learnt, ...], levels: Sequence[float], images: int | None
) -> Learning:
    budget = seeds[0].episode.budget
    guess = images is not None and chance_level(seeds[0].episode) is not None
    areas = [one.area for one in seeds if one.area is not None]
    return Learning(
        row,
        seeds,
        delay_of([one.above_chance for one in seeds], budget) if guess else None,
        {level: delay_of([one.track.reached(level) for one in seeds], budget) for level in levels},
        accuracy_interval(areas, images) if areas else None,
        all(one.track.at_end for one in seeds if one.track.points),
    )


def delay_of(by: Sequence[int | None], budget: int) -> Delay:
    """Make a delay out of the images asked in each seed; None where it never came."""
    came = sorted(asked for asked in by if asked is not None)
    return Delay((*came, *[None] * (len(by) - len(came))), budget)
