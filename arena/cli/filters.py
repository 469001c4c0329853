"""Provides the options that choose episodes, for several commands."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from envs.errors import ArenaError, ScenarioError, UnknownName

if TYPE_CHECKING:
    from arena.log.episode_filter import EpisodeFilter
    from arena.log.store import Log

# `Any` in this file: values of the options, which the filter declares, and a moment in time, whose
# type is imported late.

Many = list[str] | None

MOST = 2**63 - 1
"""The largest whole number that a log holds."""

_OPTIONS: dict[str, Any] = {
    "scenario": Annotated[Many, typer.Option(help="Only episodes of this scenario; repeatable.")],
    "attacker": Annotated[Many, typer.Option(help="Only episodes of this attacker; repeatable.")],
    "defender": Annotated[Many, typer.Option(help="Only episodes of this defender; repeatable.")],
    "status": Annotated[
        Many, typer.Option(help="Only started, success, cancelled or error; repeatable.")
    ],
    "kind": Annotated[Many, typer.Option(help="Only play, what-if or served; repeatable.")],
    "run": Annotated[Many, typer.Option(help="Only episodes of this run; repeatable.")],
    "where": Annotated[
        Many,
        typer.Option(
            metavar="PATH=VALUE",
            help="Only episodes with this setting, such as threat.budget=3000; repeatable.",
        ),
    ],
    "seed": Annotated[
        int | None, typer.Option(min=0, max=MOST, help="Only episodes with this seed.")
    ],
    "since": Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only episodes since 2025-03-01, 36h or 7d ago."),
    ],
    "until": Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only episodes before 2025-03-01, 36h or 7d ago."),
    ],
}
IdsArgument = Annotated[
    Many, typer.Argument(metavar="[ID]...", help="Episodes, by id or a unique prefix of it.")
]
RunsArgument = Annotated[
    Many,
    typer.Argument(metavar="[RUN|ID]...", help="Runs or episodes, by id or a unique prefix of it."),
]


def filtered(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options that filter episodes; its parameter `which` receives the filter.

    `which` is None where none of the options is given.
    """

    def add_options(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            command(which=_filter({name: given.pop(name) for name in names}), **given)

        options = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_OPTIONS[name]
            )
            for name in names
        ]
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command).parameters.values():
            parameters += options if own.name == "which" else [own.replace(kind=own.KEYWORD_ONLY)]
        # Typer reads both: the order of the options and what each of them is
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return add_options


def _filter(options: dict[str, Any]) -> "EpisodeFilter | None":
    from arena.log.episode_filter import EpisodeFilter
    from arena.log.rows import Kind, Status

    given = {name: value for name, value in options.items() if value not in (None, [])}
    for name, choices in (("status", Status), ("kind", Kind)):
        for value in given.get(name, ()):
            if value not in get_args(choices):
                raise UnknownName(name, value, get_args(choices))
    if "where" in given:
        from arena.log.settings_filter import setting_of

        given["where"] = [setting_of(text) for text in given["where"]]
    for name, value in given.items():
        if isinstance(value, list):
            given[name] = tuple(value)
        elif name in ("since", "until"):
            given[name] = parse_since(value)
    return EpisodeFilter(**given) if given else None


def parse_since(text: str) -> Any:
    """Parse a date, a date with time, or so many hours (36h) or days (7d) ago."""
    from datetime import UTC, datetime, timedelta

    number, unit = text[:-1], text[-1:]
    try:
        if number.isdecimal() and unit in "hd":
            return datetime.now(UTC) - timedelta(hours=int(number) * (24 if unit == "d" else 1))
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:  # no time, or none that a calendar has
        raise ScenarioError(f"expected a time like 2025-03-01, 36h or 7d, got '{text}'") from error


def chosen_ids(log: "Log", ids: Sequence[str], which: "EpisodeFilter | None") -> list[str]:
    """Return the full ids of the named episodes, or of those that a filter selects.

    Raises:
        ArenaError: both were given, or the filter selects none.
    """
    if ids and which is not None:
        raise ArenaError("expected ids or options that filter episodes, got both")
    if ids:
        return list(dict.fromkeys(id for word in ids for id in _named(log, word)))
    found = log.ids(which)
    if not found:
        raise ArenaError(f"no such episode in {log.where}; 'arena episodes' lists them")
    return found[::-1]


def _named(log: "Log", word: str) -> list[str]:
    """Return the episode with this id, or all of a run in the order of play."""
    from arena.log.episode_filter import EpisodeFilter

    try:
        return [log.episode(word).id]
    except UnknownName:
        runs = [run.id for run in log.runs() if word and run.id.startswith(word.lower())]
        if len(runs) != 1:
            raise
        of_run = EpisodeFilter(run=runs[0], newest_first=False)
        return log.ids(of_run)
