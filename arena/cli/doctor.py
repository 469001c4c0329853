"""`arena doctor`: what this installation consists of, and what stands in its way."""

import typer

from arena.cli.common import FAILED, JsonOption, LogOption, out
from arena.cli.render import write_json, write_line


def doctor(log: LogOption = None, json: JsonOption = False) -> None:
    """Show versions, devices, caches, the log and shadowed names; exit 1 if something is wrong."""
    from arena.cli.diagnosis import examine

    facts = examine(log)
    if json:
        write_json({fact.topic: {"text": fact.text, "fine": fact.fine} for fact in facts})
    else:
        console = out()
        width = max(len(fact.topic) for fact in facts)
        for fact in facts:
            mark = "  " if fact.fine else "! "
            write_line(console, f"{mark}{fact.topic:<{width}}  {fact.text}")
    if not all(fact.fine for fact in facts):
        raise typer.Exit(FAILED)
