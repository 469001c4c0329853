"""Says which episodes a command is about: the options that several commands share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from envs.errors import ArenaError, UnknownName

if TYPE_CHECKING:
    from arena.log.rows import EpisodeFilter, EpisodeRow
    from arena.log.store import Log

Many = list[str] | None

ScenarioOption = Annotated[Many, typer.Option(help="Only of this scenario; repeatable.")]
AttackerOption = Annotated[Many, typer.Option(help="Only of this attacker; repeatable.")]
DefenderOption = Annotated[Many, typer.Option(help="Only of this defender; repeatable.")]
StatusOption = Annotated[
    Many, typer.Option(help="Only started, success, cancelled or error; repeatable.")
]
RunOption = Annotated[Many, typer.Option(help="Only of this run; repeatable.")]
SeedOption = Annotated[int | None, typer.Option(help="Only with this seed.")]
SinceOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only begun since: 2025-03-01, or 36h, 7d.")
]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Only begun before it.")]
IdsArgument = Annotated[
    Many, typer.Argument(metavar="[ID]...", help="Episodes, by id or a beginning no other shares.")
]
RunsArgument = Annotated[
    Many,
    typer.Argument(
        metavar="[RUN|ID]...", help="Runs or episodes, by id or a beginning no other shares."
    ),
]


def narrowed(
    *,
    scenario: Many = None,
    attacker: Many = None,
    defender: Many = None,
    status: Many = None,
    run: Many = None,
    seed: int | None = None,
    since: str | None = None,
    until: str | None = None,
) -> "EpisodeFilter | None":
    """Build the filter of these options; None where none is given."""
    from arena.cli.episodes import parse_since
    from arena.log.rows import EpisodeFilter

    if not (scenario or attacker or defender or status or run or since or until) and seed is None:
        return None
    return EpisodeFilter(
        scenario=_choice(scenario),
        attacker=_choice(attacker),
        defender=_choice(defender),
        status=_choice(status),
        run=_choice(run),
        seed=seed,
        since=parse_since(since) if since else None,
        until=parse_since(until) if until else None,
    )


def chosen_ids(log: "Log", ids: Sequence[str], which: "EpisodeFilter | None") -> list[str]:
    """Give the full ids of the episodes that were named, or that a filter lets through.

    Raises:
        ArenaError: both were given, or nothing is left.
    """
    if ids and which is not None:
        raise ArenaError("expected ids or options that choose episodes, got both")
    if ids:
        return list(dict.fromkeys(id for word in ids for id in _named(log, word)))
    found: list[EpisodeRow] = log.episodes(which, brief=True)
    if not found:
        raise ArenaError(f"no such episode in {log.where}; 'arena episodes' lists them")
    return [row.id for row in reversed(found)]


def _named(log: "Log", word: str) -> list[str]:
    """Give the episode that an id names, or all of a run, in the order they were played."""
    from arena.log.rows import EpisodeFilter

    try:
        return [log.episode(word).id]
    except UnknownName:
        runs = [run.id for run in log.runs() if word and run.id.startswith(word.lower())]
        if len(runs) != 1:
            raise
        of_run = EpisodeFilter(run=runs[0], newest_first=False)
        return [row.id for row in log.episodes(of_run, brief=True)]


def _choice(names: Many) -> tuple[str, ...] | None:
    return tuple(names) if names else None
