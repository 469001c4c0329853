"""`arena agents`: everything a scenario can name."""

from typing import Annotated, Literal

import typer

from arena.cli.common import JsonOption, out
from arena.cli.render import write_json, write_line, write_table

What = Literal["attackers", "wrappers", "defenders", "defences", "networks", "data"]


def agents(
    what: Annotated[What | None, typer.Argument(help="Only these; all if left out.")] = None,
    json: JsonOption = False,
) -> None:
    """List everything that a scenario can name, with its parameters."""
    from arena.registry.listing import KINDS, inventory

    found = {kind: inventory(kind) for kind in KINDS if what in (None, kind)}
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
