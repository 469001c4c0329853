"""What a sequence of attacks came to: the worst case of each defender at each budget, and flags."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from arena.analysis.alarms import alarms_of
from arena.analysis.effects import CONTROL, DefenceEffects, defence_effects
from arena.analysis.image_sampling import sampling_variance
from arena.analysis.inferring import Verdicts, verdicts_on
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.scoreboard import ScoreRow, by_defender, scoreboard, scored
from arena.assessment.comparisons import CLONE, Played, best_by_seed
from arena.assessment.flags import Flag, flags_of
from arena.assessment.sequence import Attack, Chosen
from arena.log.rows import CheckpointRow, EpisodeRow, EventRow, InferenceRow, RunRow
from arena.log.store import Log


class Reached(NamedTuple):
    """What one attack reached against a defender.

    Attributes:
        attack: of the sequence.
        clone: the clone's accuracy; None where it trains none.
        seeds: on how many.
    """

    attack: Attack
    clone: Interval | None
    seeds: int


class WorstCase(NamedTuple):
    """The best clone of each seed, which an attacker who tries everything gets, noise too.

    Attributes:
        clone: its accuracy, averaged over seeds.
        by: the attack that is best on average.
    """

    clone: Interval
    by: str


class Alarmed(NamedTuple):
    """In how many episodes, of all, the attacker was flagged."""

    flagged: int
    episodes: int


@dataclass(frozen=True)
class Judged:
    """One defender at one budget.

    Attributes:
        defender: its name.
        reached: by each attack that met it, in the order of the sequence.
        worst: None where no clone was measured.
        flags: see `arena.assessment.flags`.
        effects: held against the undefended victim; None for that one.
        inferred: what the timing probe found out, by attribute.
        alarmed: what the defender noticed of all attacks.
    """

    defender: str
    reached: tuple[Reached, ...]
    worst: WorstCase | None
    flags: tuple[Flag, ...]
    effects: DefenceEffects | None
    inferred: Mapping[str, Verdicts]
    alarmed: Alarmed

    @property
    def raised(self) -> list[Flag]:
        """The flags that say that the result may mislead."""
        return [one for one in self.flags if one.state == "raised"]


class AtBudget(NamedTuple):
    """All defenders at one budget, the undefended victim first."""

    budget: int
    defenders: tuple[Judged, ...]


@dataclass(frozen=True)
class Assessment:
    """What an evidence pack is made of.

    Attributes:
        chosen: the attacks, and those that the threat model does not admit.
        budgets: rising.
        episodes: all that were played, failed ones too.
        runs: they belong to.
    """

    chosen: Chosen
    budgets: tuple[AtBudget, ...]
    episodes: tuple[EpisodeRow, ...]
    runs: tuple[RunRow, ...]

    @property
    def failed(self) -> list[EpisodeRow]:
        """The episodes that did not end well, which no figure counts."""
        return [row for row in self.episodes if row.status != "success"]


def assessed(log: Log, episodes: Sequence[EpisodeRow], chosen: Chosen) -> Assessment:
    """Judge the episodes of an assessed scenario.

    Args:
        log: holds them.
        episodes: of all budgets.
        chosen: the attacks they were played with.
    """
    ids = [row.id for row in episodes]
    parts = _Parts(
        log.of_episodes(CheckpointRow, ids),
        log.of_episodes(EventRow, ids),
        log.of_episodes(InferenceRow, ids),
    )
    wanted = {row.run_id for row in episodes}
    return Assessment(
        chosen,
        tuple(
            AtBudget(budget, _judged([row for row in episodes if row.budget == budget],
                                     chosen.attacks, parts))
            for budget in sorted({row.budget for row in episodes})
        ),
        tuple(episodes),
        tuple(run for run in log.runs() if run.id in wanted),
    )  # fmt: skip


class _Parts(NamedTuple):
    checkpoints: Mapping[str, Sequence[CheckpointRow]]
    events: Mapping[str, Sequence[EventRow]]
    inferences: Mapping[str, Sequence[InferenceRow]]


def _judged(
    episodes: Iterable[EpisodeRow], attacks: Sequence[Attack], parts: _Parts
) -> tuple[Judged, ...]:
    board = scoreboard(episodes, as_given=True)
    effects = {one.defender: one for one in defence_effects(board)}
    boards = by_defender(board)
    control = _by_attack(boards.get(CONTROL, ()))
    found = []
    for name, rows in boards.items():
        by_attack = _by_attack(rows)
        played = Played(attacks, by_attack, control, parts.checkpoints, parts.events)
        found.append(
            Judged(
                name,
                tuple(_reached(one, by_attack[one.name]) for one in attacks
                      if one.name in by_attack),
                _worst([row for row in rows if CLONE in row.scores]),
                tuple(flags_of(played)),
                effects.get(name),
                _inferred(by_attack.get("exit-timing"), parts.inferences),
                _alarmed(rows, parts.events),
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda one: one.defender != CONTROL))


def _by_attack(rows: Iterable[ScoreRow]) -> dict[str, ScoreRow]:
    return {row.attacker: row for row in rows}


def _reached(attack: Attack, row: ScoreRow) -> Reached:
    return Reached(attack, row.scores.get(CLONE), row.n)


def _worst(rows: Sequence[ScoreRow]) -> WorstCase | None:
    if not rows:
        return None
    values = list(best_by_seed(rows).values())
    best = max(rows, key=lambda row: row.scores[CLONE].mean)
    found = mean_interval(values).widened(sampling_variance(CLONE, scored([best])))
    return WorstCase(found.within(0, 1), best.attacker)


def _alarmed(rows: Sequence[ScoreRow], events: Mapping[str, Sequence[EventRow]]) -> Alarmed:
    episodes = [one.id for row in rows for one in row.episodes.values()]
    flagged = (any(alarm.attacker for alarm in alarms_of(events.get(id, ()))) for id in episodes)
    return Alarmed(sum(flagged), len(episodes))


def _inferred(
    row: ScoreRow | None, inferences: Mapping[str, Sequence[InferenceRow]]
) -> dict[str, Verdicts]:
    if row is None:
        return {}
    said: dict[str, list[InferenceRow]] = {}
    for episode in row.episodes.values():
        for one in inferences.get(episode.id, ()):
            said.setdefault(one.attribute, []).append(one)
    counted = {attribute: verdicts_on(all_said) for attribute, all_said in said.items()}
    return {attribute: one for attribute, one in counted.items() if one is not None}
