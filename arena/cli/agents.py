"""`arena agents`: everything a scenario can name."""

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import JsonOption, out
from arena.cli.render import write_json, write_line, write_table

if TYPE_CHECKING:
    from rich.console import Console

    from arena.registry.catalog import Entry
    from arena.registry.parameters import Parameter


def agents(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND|NAME]",
            help="Only attackers, wrappers, defenders, defences, metrics, networks or data; or one "
            "of them by its name, with all that it can be told.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List everything that a scenario can name, with its parameters."""
    from arena.registry.listing import KINDS, inventory

    found = {kind: inventory(kind) for kind in KINDS if what in (None, kind)}
    if not found:
        _tell_of(str(what), json=json)
        return
    if json:
        write_json(found)
        return
    console = out()
    for kind, entries in found.items():
        if what is None:
            write_line(console, kind.upper())
        rows = [
            (
                entry.name,
                entry.fault or entry.summary,
                ", ".join(
                    p.name if p.default in ("", "None") else f"{p.name}={p.default}"
                    for p in entry.parameters
                ),
                entry.origin,
            )
            for entry in entries
        ]
        write_table(console, ("name", "what it is", "parameters", "from"), rows)
        if what is None:
            write_line(console)


def _tell_of(name: str, *, json: bool) -> None:
    """Tell all about everything of a name, of whichever kind.

    Raises:
        UnknownName: there is none.
    """
    from arena.registry.listing import KINDS, inventory
    from envs.errors import UnknownName

    every = {kind: inventory(kind) for kind in KINDS}
    found = {
        kind: named for kind, of in every.items() if (named := [e for e in of if e.name == name])
    }
    if not found:
        names = [*KINDS, *(entry.name for of in every.values() for entry in of)]
        raise UnknownName("kind or name", name, names)
    if json:
        write_json(found)
        return
    for kind, entries in found.items():
        for entry in entries:
            _write_entry(out(), kind, entry)


def _write_entry(console: "Console", kind: str, entry: "Entry") -> None:
    """Write an entry with each parameter on lines of its own, which no terminal cuts."""
    width = max(40, console.width)
    for line in textwrap.wrap(f"{entry.name} ({kind}; {entry.origin})", width):
        write_line(console, line)
    for line in textwrap.wrap(entry.fault or entry.summary, width - 2):
        write_line(console, f"  {line}")
    for parameter in entry.parameters:
        write_line(console)
        _write_wrapped(console, _declaration(parameter), width, "  ")
        _write_wrapped(console, parameter.meaning, width, "      ")


def _write_wrapped(console: "Console", text: str, width: int, indent: str) -> None:
    for line in textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent):
        write_line(console, line)


def _declaration(parameter: "Parameter") -> str:
    """Write name, type with its range, and default: "batch: int >= 1, 256 by default"."""
    default = f"{parameter.default} by default" if parameter.default else "needed"
    return f"{parameter.name}: {', '.join(filter(None, (parameter.type, default)))}"
