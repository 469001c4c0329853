"""Reads everything that the log holds about some episodes once, for figures and reports."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from arena.analysis.along_budget import Slice, slices_of
from arena.analysis.effects import DefenceEffects, defence_effects
from arena.analysis.frames import chosen
from arena.analysis.games import Game, Played, games_of
from arena.analysis.inferring import Inferred, inferred_by
from arena.analysis.scoreboard import ScoreRow, scoreboard
from arena.log.rows import (
    CheckpointRow,
    EpisodeRow,
    EventRow,
    Exits,
    InferenceRow,
    RoundAnswers,
    RoundRow,
    RunRow,
    added_exits,
)
from arena.log.store import Log
from arena.recording.samples import Asked, samples_of
from envs.errors import printable


class ExitCounts(NamedTuple):
    """Images answered over an episode, by deployed defence and exit; empty if unknown."""

    attack: Exits
    benign: Exits


@dataclass(frozen=True)
class EpisodeData:
    """What is known about some episodes.

    Attributes:
        episodes: in the order they were named.
        played: the game of each, by its id.
        board: their meetings, averaged over seeds.
        checkpoints, exits, inferences, events: of each episode, by its id.
        slices: its rounds, summed by the part of the budget in which they ended.
        asked: samples of what the attacker asked, of each episode that kept one.
        runs: the runs they belong to, oldest first.
    """

    episodes: tuple[EpisodeRow, ...]
    played: Mapping[str, Played]
    board: tuple[ScoreRow, ...]
    checkpoints: Mapping[str, Sequence[CheckpointRow]]
    exits: Mapping[str, ExitCounts]
    slices: Mapping[str, Mapping[int, Slice]]
    inferences: Mapping[str, Sequence[InferenceRow]]
    events: Mapping[str, Sequence[EventRow]]
    asked: Mapping[str, Sequence[Asked]]
    runs: tuple[RunRow, ...]

    @cached_property
    def effects(self) -> list[DefenceEffects]:
        """Every defender held against the undefended one; empty where none was played."""
        return defence_effects(self.board)

    @cached_property
    def inferred(self) -> list[Inferred]:
        """What each attacker said of the victims."""
        return inferred_by(self.board, self.inferences)

    def games(self) -> dict[str, "EpisodeData"]:
        """Take it apart by game, named for people, in the order of the episodes."""
        by_game: dict[Game, list[EpisodeRow]] = defaultdict(list)
        for row in self.episodes:
            by_game[self.played[row.id].game].append(row)
        return {game.title: self._only(game, rows) for game, rows in by_game.items()}

    def scenarios(self) -> dict[str, "EpisodeData"]:
        """Take it apart by scenario, each with all its settings, in the order of the episodes."""
        names = dict.fromkeys(row.scenario_name for row in self.episodes)
        return {
            name: replace(
                self,
                episodes=tuple(row for row in self.episodes if row.scenario_name == name),
                board=tuple(row for row in self.board if row.scenario == name),
            )
            for name in names
        }

    def _only(self, game: Game, episodes: Sequence[EpisodeRow]) -> "EpisodeData":
        wanted = {row.run_id for row in episodes}
        return replace(
            self,
            episodes=tuple(episodes),
            board=tuple(row for row in self.board if row.game == game),
            runs=tuple(run for run in self.runs if run.id in wanted),
        )


def gather(log: Log, ids: Iterable[str]) -> EpisodeData:
    """Read everything about the named episodes.

    Raises:
        UnknownName, LogError: an id that no episode, or more than one, has.
        ArenaError: none was named.
    """
    # figures measure their names before anything else sees them
    episodes = tuple(map(_printable, chosen(log, ids)))
    wanted, every = {row.run_id for row in episodes}, [row.id for row in episodes]
    rounds, played = log.of_episodes(RoundAnswers, every), games_of(episodes)
    runs = sorted((run for run in log.runs() if run.id in wanted), key=lambda run: run.created)
    return EpisodeData(
        episodes=episodes,
        played=played,
        board=tuple(scoreboard(episodes, as_given=True, games=played)),
        checkpoints=log.of_episodes(CheckpointRow, every),
        exits={row.id: exit_counts(rounds[row.id]) for row in episodes},
        slices={row.id: slices_of(row.budget, rounds[row.id]) for row in episodes},
        inferences=log.of_episodes(InferenceRow, every),
        events=log.of_episodes(EventRow, every),
        asked=samples_of(log, every),
        runs=tuple(runs),
    )


def _printable(row: EpisodeRow) -> EpisodeRow:
    names = printable(row.attacker), printable(row.defender)
    if names == (row.attacker, row.defender):
        return row
    return replace(row, attacker=names[0], defender=names[1])


def exit_counts(rounds: Iterable[RoundRow | RoundAnswers]) -> ExitCounts:
    """Sum the exit histograms of an episode's buckets, of as many defences on both sides."""
    buckets = list(rounds)
    attack = added_exits(*(bucket.attack_exits for bucket in buckets))
    benign = added_exits(*(bucket.benign_exits for bucket in buckets))
    most = max(len(attack), len(benign))  # a damaged log may hold fewer on one side
    padding: Exits = ((),) * most
    return ExitCounts(attack + padding[len(attack) :], benign + padding[len(benign) :])


def defence_names(episode: EpisodeRow, count: int) -> list[str]:
    """Name the deployed defences of an episode for people, each name once.

    Args:
        episode: its plan says what they are.
        count: how many there are.
    """
    defender = episode.plan.get("defender")
    brought = defender.get("defence", ()) if isinstance(defender, Mapping) else ()
    uses = [str(one.get("use", "")) for one in brought if isinstance(one, Mapping)]
    if len(uses) != count:
        return [f"defence {number + 1}" for number in range(count)]
    return [
        name if uses.count(name) == 1 else f"{name} {number + 1}"
        for number, name in enumerate(uses)
    ]
