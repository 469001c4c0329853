"""Tests for each way in which a protected victim proves less than it seems to.

A low clone accuracy protects nobody where the attack was at fault. Each flag names one such fault;
an accuracy that is higher than another by `MATERIAL`, in a t test over seeds that counts the test
images in and is corrected by Holm for all comparisons of one defender, raises it.

Source:
    The checklist of Carlini et al. 2019, On evaluating adversarial robustness, arXiv:1902.06705,
    and the flags of Croce et al. 2020's RobustBench, arXiv:2010.09670, for evasion; ours are for
    extraction.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Literal, NamedTuple

from agents.attackers.repeats import REPEATS
from arena.analysis.image_sampling import share_variance
from arena.analysis.intervals import mean_interval, normal_reach
from arena.analysis.metrics import chance_level
from arena.analysis.paired_tests import holm
from arena.analysis.scoreboard import ScoreRow
from arena.assessment.comparisons import (
    CLONE,
    LEVEL,
    MATERIAL,
    Asked,
    Comparison,
    Played,
    best_by_seed,
    comparisons_of,
    copies_of,
)
from arena.log.metric import UNTRAINED
from arena.log.rows import CheckpointRow

State = Literal["raised", "clear", "undecided", "not tested"]
"""`undecided` is a difference of at least `MATERIAL` that too few seeds show."""

VARY = 1e-4
"""L1 distance between two answers to one image above which they count as different."""

RELABELLED = 0.05
"""Share of near copies that a defender labels otherwise, beyond what the control does."""

EXTRACTED = 0.5
"""Share of the way from chance to the victim's accuracy at which a clone counts as a copy."""


class Flag(NamedTuple):
    """One way in which a result may mislead.

    Attributes:
        name: in words.
        state: see `State`.
        evidence: what was measured, in one line.
        advice: what to do about it, where it is raised.
    """

    name: str
    state: State
    evidence: str
    advice: str


def flags_of(played: Played) -> list[Flag]:
    """Test every flag of one defender at one budget."""
    tests = comparisons_of(played)
    adjusted = holm([one.gap.p for one in tests])
    found = dict(zip(tests, adjusted, strict=True))
    return [
        _repeats(played),
        _beats("argmax beats soft", found, "Serve no soft answers that say less than their label, "
               "and judge by the hard-label attack."),
        _no_gain(played, found),
        _beats("pool beats data-free", found, "The defence stops images that attackers make, and "
               "not those they own: judge it by pools near the victim's data."),
        _beats("countermeasure beats plain", found, "Attackers can undo a part of the defence: "
               "judge it by the countermeasure."),
        _below_chance(played),
        _untrained(played),
        _not_extracted(played),
    ]  # fmt: skip


def _beats(name: Asked, tests: Mapping[Comparison, float], advice: str) -> Flag:
    """Raise a flag where one comparison shows that its first side is better."""
    ours = {one: p for one, p in tests.items() if one.flag == name}
    if not ours:
        return Flag(name, "not tested", "the sequence played no such pair", "")
    first = min(ours, key=lambda one: (not one.shown(ours[one]), -one.lead))
    state: State = "clear" if first.lead < MATERIAL else "undecided"
    return Flag(name, "raised" if first.shown(ours[first]) else state,
                f"{first.points}; p = {ours[first]:.2g} corrected", advice)  # fmt: skip


def _no_gain(played: Played, tests: Mapping[Comparison, float]) -> Flag:
    """Raise a flag where no attack gains anything over answers to noise."""
    name = "control matches attack"
    ours = {one: p for one, p in tests.items() if one.flag == name}
    if not ours:
        return Flag(name, "not tested", "no control was played", "")
    best = max(ours, key=lambda one: (one.shown(ours[one]), one.lead))
    state: State = "raised" if best.lead < MATERIAL else "undecided"
    return Flag(name, "clear" if best.shown(ours[best]) else state, best.points,
                "The clone learns nothing but what noise tells: a better attack or a larger budget "
                "may change the result.")  # fmt: skip


def _repeats(played: Played) -> Flag:
    """Raise a flag where answers to one image differ, or near copies get other labels."""
    name, found = "answers vary", _noted(played, played.rows)
    if not found:
        return Flag(name, "not tested", "no images were asked again", "")
    usual = _noted(played, played.control)
    apart = max(one["distance"] for one in found.values())
    beyond = max(
        (one["near_relabelled"] - usual[key]["near_relabelled"]
         for key, one in found.items() if key in usual), default=None,
    )  # fmt: skip
    raised = apart > VARY or (beyond or 0.0) > RELABELLED
    near = "near copies were not asked about undefended" if beyond is None else (
        f"near copies are labelled otherwise in {100 * beyond:.1f} points more than undefended"
    )  # fmt: skip
    evidence = f"two answers to one image are {apart:.3g} apart (L1) on average; {near}"
    advice = "Judge by attacks that average several answers."
    return Flag(name, "raised" if raised else "clear", evidence, advice)


def _noted(
    played: Played, rows: Mapping[str, ScoreRow]
) -> dict[tuple[int, str], Mapping[str, float]]:
    """Return what the probe of repeats measured, by seed and kind of image."""
    found: dict[tuple[int, str], Mapping[str, float]] = {}
    for attack in played.attacks:
        row = rows.get(attack.name)
        for seed, episode in ({} if row is None else row.episodes).items():
            for event in played.events.get(episode.id, ()):
                # what a player notes lies under a key of its own
                noted = event.data.get("data") if event.kind == REPEATS else None
                if isinstance(noted, Mapping):
                    found |= {(seed, kind): one for kind, one in noted.items() if _is_whole(one)}
    return found


def _is_whole(noted: object) -> bool:
    """Whether a note, which a log from elsewhere may hold otherwise, has what is read of it."""
    return isinstance(noted, Mapping) and all(
        isinstance(noted.get(name), int | float) for name in ("distance", "near_relabelled")
    )


def _below_chance(played: Played) -> Flag:
    """Raise a flag where a clone is worse than guessing."""
    name, rows = "clone below chance", copies_of(played.attacks, played.rows)
    guesses = ((row, chance_level(next(iter(row.episodes.values())))) for row in rows)
    tested = [(row, chance) for row, chance in guesses if chance is not None]
    if not tested:
        return Flag(name, "not tested", "no clone was measured, or chance is not known", "")
    confidence = 1 - 2 * LEVEL / len(tested)
    shown = [(row, chance) for row, chance in tested if _upper(row, confidence) < chance]
    low, chance = min(shown or tested, key=lambda one: one[0].scores[CLONE].mean)
    evidence = f"{low.attack}: {100 * low.scores[CLONE].mean:.1f}%, chance {100 * chance:.1f}%"
    return Flag(name, "raised" if shown else "clear", evidence,
                "Answers are wrong in a way that can be learnt: an attacker who knows some labels "
                "turns them round.")  # fmt: skip


def _upper(row: ScoreRow, confidence: float) -> float:
    found = mean_interval(list(row.by_seed(CLONE).values()), confidence)
    variance = share_variance(found.mean, row.images)
    high = found.widened(variance).high
    return found.mean + normal_reach(variance, confidence) if high is None else high


def _untrained(played: Played) -> Flag:
    """Raise a flag where a clone still has its initial weights."""
    name, rows = "untrained clone", copies_of(played.attacks, played.rows)
    if not rows:
        return Flag(name, "not tested", "no clone was measured", "")
    never = [row.attack for row in rows if any(map(_never, _last(played, row)))]
    evidence = f"never trained: {', '.join(never)}" if never else "every clone was trained"
    advice = "The attack kept no answer to learn from; its accuracy is that of chance."
    return Flag(name, "raised" if never else "clear", evidence, advice)


def _last(played: Played, row: ScoreRow) -> list[CheckpointRow]:
    listed = (played.checkpoints.get(episode.id, ()) for episode in row.episodes.values())
    return [max(checkpoints, key=lambda one: one.index) for checkpoints in listed if checkpoints]


def _never(checkpoint: CheckpointRow) -> bool:
    return bool(checkpoint.metrics.get(UNTRAINED))


def _not_extracted(played: Played) -> Flag:
    """Raise a flag where the attacks do not copy the undefended victim either."""
    name = "undefended not extracted"
    rows = [row for row in played.control.values() if CLONE in row.scores]
    episodes = [one for row in rows for one in row.episodes.values()]
    chance = chance_level(episodes[0]) if episodes else None
    right = [one.victim_accuracy for one in episodes if one.victim_accuracy is not None]
    if chance is None or not right or fmean(right) <= chance:
        return Flag(name, "not tested", "the undefended victim was not attacked", "")
    best = fmean(best_by_seed(rows).values())
    share = (best - chance) / (fmean(right) - chance)
    evidence = (f"the best clone of the undefended victim has {100 * best:.1f}%, "
                f"{100 * share:.0f}% of the way from chance to the victim")  # fmt: skip
    return Flag(name, "raised" if share < EXTRACTED else "clear", evidence,
                "The attacks are too weak for this victim or this budget: what they miss under a "
                "defence says nothing of it.")  # fmt: skip
