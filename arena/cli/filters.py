"""Provides the options that choose episodes, for several commands."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envs.errors import ArenaError, ScenarioError, UnknownName

if TYPE_CHECKING:
    from arena.log.rows import EpisodeFilter, EpisodeRow
    from arena.log.store import Log

# `Any` in this file: values of the options, which the filter declares, and a moment in time, whose
# type is imported late.

Many = list[str] | None

ScenarioOption = Annotated[Many, typer.Option(help="Only of this scenario; repeatable.")]
AttackerOption = Annotated[Many, typer.Option(help="Only of this attacker; repeatable.")]
DefenderOption = Annotated[Many, typer.Option(help="Only of this defender; repeatable.")]
StatusOption = Annotated[
    Many, typer.Option(help="Only started, success, cancelled or error; repeatable.")
]
KindOption = Annotated[Many, typer.Option(help="Only play or what-if; repeatable.")]
RunOption = Annotated[Many, typer.Option(help="Only of this run; repeatable.")]
SeedOption = Annotated[int | None, typer.Option(help="Only with this seed.")]
SinceOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only started since: 2025-03-01, or 36h, 7d ago.")
]
UntilOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only started before: 2025-03-01, or 36h, 7d ago."),
]
IdsArgument = Annotated[
    Many, typer.Argument(metavar="[ID]...", help="Episodes, by id or a unique prefix of it.")
]
RunsArgument = Annotated[
    Many,
    typer.Argument(metavar="[RUN|ID]...", help="Runs or episodes, by id or a unique prefix of it."),
]


def episode_filter(
    *,
    scenario: Many = None,
    attacker: Many = None,
    defender: Many = None,
    status: Many = None,
    run: Many = None,
    kind: Many = None,
    seed: int | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
) -> "EpisodeFilter":
    """Build the filter of these options."""
    from arena.log.rows import EpisodeFilter

    return EpisodeFilter(
        scenario=_choice(scenario),
        attacker=_choice(attacker),
        defender=_choice(defender),
        status=_choice(status),
        run=_choice(run),
        kind=_choice(kind),
        seed=seed,
        since=parse_since(since) if since else None,
        until=parse_since(until) if until else None,
        limit=limit,
    )


def narrowed(**options: Any) -> "EpisodeFilter | None":
    """Build the filter of these options; None where none is given."""
    given = {name: value for name, value in options.items() if value not in (None, [], "")}
    return episode_filter(**given) if given else None


def parse_since(text: str) -> Any:
    """Parse a date, a date with time, or so many hours (36h) or days (7d) ago."""
    from datetime import UTC, datetime, timedelta

    number, unit = text[:-1], text[-1:]
    if number.isdecimal() and unit in "hd":
        return datetime.now(UTC) - timedelta(hours=int(number) * (24 if unit == "d" else 1))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ScenarioError(f"expected a time like 2025-03-01, 36h or 7d, got '{text}'") from error
    return moment if moment.tzinfo else moment.astimezone()


def chosen_ids(log: "Log", ids: Sequence[str], which: "EpisodeFilter | None") -> list[str]:
    """Return the full ids of the named episodes, or of those that a filter selects.

    Raises:
        ArenaError: both were given, or the filter selects none.
    """
    if ids and which is not None:
        raise ArenaError("expected ids or options that filter episodes, got both")
    if ids:
        return list(dict.fromkeys(id for word in ids for id in _named(log, word)))
    found: list[EpisodeRow] = log.episodes(which, brief=True)
    if not found:
        raise ArenaError(f"no such episode in {log.where}; 'arena episodes' lists them")
    return [row.id for row in reversed(found)]


def _named(log: "Log", word: str) -> list[str]:
    """Return the episode with this id, or all of a run in the order of play."""
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
