"""Answers, from the data, what a reader asks first.

Which attack did best against which defence, what it cost the defender, what benign users lost, and
how sure we are.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from arena.analysis.episode_data import EpisodeData
from arena.analysis.image_sampling import share_variance
from arena.analysis.intervals import Interval, seeds_needed
from arena.analysis.paired_tests import NEEDS_PAIRS, holm, paired_permutation_test
from arena.analysis.pooled import over_attackers
from arena.analysis.scoreboard import Comparison, ScoreRow, best, by_defender, compare
from arena.log.rows import EpisodeRow
from arena.report.formatting import count_text, counted, listed, number, reach, with_interval

CLONE = "clone_accuracy"

ENOUGH = 0.02
"""Half an interval that we would call narrow: two points of accuracy."""


class Statement(NamedTuple):
    """One sentence, about one subject ("" for all)."""

    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A question and its answers, and what they come to where there are many."""

    question: str
    answers: tuple[Statement, ...]
    short: str = ""


def findings(episode_data: EpisodeData) -> list[Finding]:
    """Statement the four questions."""
    defenders = by_defender(episode_data.board)
    return [
        Finding(
            "Which attack did best against which defence?",
            _attacks(defenders.values()),
            _most_often(defenders.values()),
        ),
        Finding("What did it cost the defender?", _costs(defenders.items())),
        Finding("What did benign users lose?", _losses(defenders.items())),
        Finding(
            "How sure are we?", tuple(Statement("", text) for text in _certainty(episode_data))
        ),
    ]


def _attacks(defenders: Iterable[Sequence[ScoreRow]]) -> tuple[Statement, ...]:
    ranks = [(rows[0].versus, best(rows)) for rows in defenders]
    found = [compare(rows[0], rows[1]) if len(rows) > 1 else None for _, rows in ranks]
    tested = [one.test.p for one in found if one is not None and one.test.n > 1]
    adjusted = iter(holm(tested))
    answers = []
    for (versus, rows), gap in zip(ranks, found, strict=True):
        if not rows:
            answers.append(Statement(versus, "no clone was measured."))
            continue
        text = f"{rows[0].attack}, clone accuracy {with_interval(rows[0].scores[CLONE])}"
        if gap is not None:
            text += f"; {_lead(rows[1].attack, gap)}"
            if gap.test.n > 1:
                text += _chance(gap, next(adjusted), tests=len(tested))
        elif len(rows) > 1:
            text += f"; {_unpaired_lead(rows[0], rows[1])}"
        answers.append(Statement(versus, f"{text}{_guesses(rows[:2])}."))
    return tuple(answers)


def _most_often(defenders: Iterable[Sequence[ScoreRow]]) -> str:
    """Say which attacks did best, and against how many defenders each."""
    firsts = [rows[0].attack for rows in map(best, defenders) if rows]
    return shares_text(firsts, counted(len(firsts), "defender"))


def shares_text(names: Sequence[str], of: str) -> str:
    """Say how often each name stands there, the most frequent first; nothing of none."""
    if not names:
        return ""
    (first, times), *others = Counter(names).most_common()
    told = [f"{first} against {times} of {of}", *(f"{one} against {n}" for one, n in others)]
    return f"{listed(told)}."


def _guesses(rows: Sequence[ScoreRow]) -> str:
    """Say so where the best clones may be no better than guesses."""
    guess = rows[0].at_chance
    if guess is None:
        return ""
    who = "" if len(rows) == 1 else f"{rows[0].attack} "
    if len(rows) > 1 and None not in (row.at_chance for row in rows):
        who = "both "
    return f"; {who}at chance ({number(guess, 'share')})"


def _unpaired_lead(first: ScoreRow, second: ScoreRow) -> str:
    gap = first.scores[CLONE].mean - second.scores[CLONE].mean
    return (
        f"{number(gap, 'points')} points ahead of {second.attack}, on other seeds, "
        "so that the two cannot be paired"
    )


def _lead(second: str, gap: Comparison) -> str:
    lead = gap.difference.mean
    if lead < 0:  # the two have unequal seeds
        shared = counted(len(gap.seeds), "seed")
        return f"{number(-lead, 'points')} points behind {second} on the {shared} that both have"
    text = f"{number(lead, 'points')} points ahead of {second}"
    return text if gap.test.n > 1 else f"{text} on the one seed they share"


def _chance(gap: Comparison, adjusted_p: float, *, tests: int) -> str:
    """Say whether a lead may be chance, one of so many that are tested here."""
    text = f" ({reach(gap.difference, 'points')}; paired permutation p = {gap.test.p:.2g}"
    if gap.test.p <= gap.test.smallest_p + 1e-12 and gap.test.smallest_p > 0.05:
        text += f", the least that {gap.test.n} seeds can give"
    if tests > 1:
        text += f"; {adjusted_p:.2g} corrected by Holm for {tests} tests"
    return f"{text})"


def _costs(defenders: Iterable[tuple[str, Sequence[ScoreRow]]]) -> tuple[Statement, ...]:
    answers = []
    for name, rows in defenders:
        parts = [
            f"{what} took {number(score.mean, 'share')} of the whole network's compute "
            f"({reach(score)})"
            for what, measure in (
                ("an attack query", "attack_compute_share"),
                ("a benign query", "benign_compute_share"),
            )
            if (score := over_attackers(rows, measure)) is not None
        ]
        distortion = over_attackers(rows, "distortion_mean")
        if distortion is not None:
            parts.append(f"served posteriors were {_moved(distortion)}")
        answers.append(Statement(name, f"{'; '.join(parts) or 'not measured, or not known'}."))
    return tuple(answers)


def _moved(distortion: Interval) -> str:
    if not distortion.mean:
        return "not touched"
    if distortion.mean < 5e-4:
        return "moved by less than 0.001 (L1 distance, 0 to 2)"
    said = number(distortion.mean, "l1")
    return f"moved by {said} (L1 distance, 0 to 2; {reach(distortion, 'l1')})"


def _losses(defenders: Iterable[tuple[str, Sequence[ScoreRow]]]) -> tuple[Statement, ...]:
    answers = []
    for name, rows in defenders:
        loss = over_attackers(rows, "utility_loss")
        served = over_attackers(rows, "served_accuracy")
        if loss is None or served is None:
            text = "the accuracy served to benign users was not measured."
        else:
            text = f"{_lost(loss)}: served answers are right in {with_interval(served)}."
        answers.append(Statement(name, text))
    return tuple(answers)


def _lost(loss: Interval) -> str:
    if loss.mean == 0 and not loss.half_width:
        return "nothing"
    verb = "lost"
    if loss.mean < -5e-4:  # below that it reads as 0.0
        verb = "gained"
        loss = Interval(-loss.mean, _minus(loss.high), _minus(loss.low), loss.n, loss.confidence)
    return f"{number(loss.mean, 'points')} points {verb} ({reach(loss, 'points')})"


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def _certainty(episode_data: EpisodeData) -> list[str]:
    """Say on how many seeds all this rests, what was left out, and what else may differ."""
    sentences = [*_spread(episode_data.board), *_left_out(episode_data)]
    provenance = {
        (episode.git_commit, tuple(sorted((k, str(v)) for k, v in episode.versions.items())))
        for row in episode_data.board
        for episode in row.episodes.values()
    }
    if len(provenance) > 1:
        sentences.append(
            f"The episodes were played under {len(provenance)} different versions or commits; "
            "differences may come from there."
        )
    return sentences


def _spread(board: Sequence[ScoreRow]) -> list[str]:
    measured = [row for row in board if CLONE in row.scores]
    if not measured:
        return ["There is no clone accuracy to be sure of."]
    counts = [row.scores[CLONE].n for row in measured]
    if max(counts) == 1:
        return [
            "Every number comes from a single seed, so that there is no interval: with another "
            "seed it may come out differently, and differences between players may be chance. "
            "Play at least three seeds before you rely on them."
        ]
    few = counted(min(counts), "seed")
    seeds = few if min(counts) == max(counts) else f"{min(counts)} to {max(counts)} seeds"
    text = (
        f"Each number is a mean over {seeds}, and its interval is Student's t at 95%; that of an "
        f"accuracy holds the sampling of the {_images(measured)}test images as well."
    )
    if min(counts) == 1:
        text += " Numbers from one seed have no interval."
    return [text, *_too_few(max(counts)), *_narrower(measured)]


def _images(measured: Sequence[ScoreRow]) -> str:
    """Say how many test images there are, where that is known and one number."""
    counts = {row.images for row in measured}
    (images,) = counts if len(counts) == 1 else (None,)
    return "" if images is None else f"{count_text(images)} "


def _too_few(seeds: int) -> list[str]:
    """Say what no test can show on so few seeds."""
    if seeds >= NEEDS_PAIRS:
        return []
    least = paired_permutation_test([1.0] * seeds, [0.0] * seeds).smallest_p
    return [
        f"On {seeds} seeds no paired test gives a p below {least:.2g}, however far apart two "
        f"players are; it takes {NEEDS_PAIRS} to get below 0.05."
    ]


def _narrower(measured: Sequence[ScoreRow]) -> list[str]:
    """Say what it takes to make the widest interval narrow, if it is not."""
    row = max((one for one in measured if one.n > 1), key=lambda one: _width(one.scores[CLONE]))
    if _width(row.scores[CLONE]) <= 2 * ENOUGH:
        return []
    values, wanted = list(row.by_seed(CLONE).values()), f"±{number(ENOUGH, 'points')} points"
    variance = share_variance(row.scores[CLONE].mean, row.images)
    need = seeds_needed(values, ENOUGH, variance=variance)
    if need is None:
        return [
            f"The least certain is {row.title}: no number of seeds would narrow it to {wanted}, "
            "because so few test images leave more than that."
        ]
    return [f"The least certain is {row.title}: about {need} seeds would narrow it to {wanted}."]


def _width(score: Interval) -> float:
    return 2 * (score.half_width or 0.0)


def _left_out(episode_data: EpisodeData) -> list[str]:
    counted_ids = {episode.id for row in episode_data.board for episode in row.episodes.values()}
    left = [episode for episode in episode_data.episodes if episode.id not in counted_ids]
    if not left:
        return []
    reasons = Counter(map(_reason, left))
    parts = [f"{count} {reason}" for reason, count in sorted(reasons.items())]
    return [
        f"Of {counted(len(episode_data.episodes), 'episode')}, {len(left)} "
        f"{'is' if len(left) == 1 else 'are'} in no mean: {listed(parts)}."
    ]


def _reason(episode: EpisodeRow) -> str:
    if episode.status != "success":
        return {"started": "not finished", "error": "ended in an error"}.get(
            episode.status, episode.status
        )
    return episode.kind if episode.kind != "play" else "played again later"
