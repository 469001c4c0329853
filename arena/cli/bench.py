"""`arena bench`: how fast the arena is on this machine."""

from pathlib import Path
from typing import Annotated, Any

import typer

from arena.cli.common import FAILED, JsonOption, QuietOption, err, out
from arena.cli.places import require_file
from arena.cli.render import write_json, write_line, write_table
from envs.errors import ScenarioError

# `Any` in this file: results as plain JSON values.


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Run this benchmark; may be repeated."),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--quick", help="Small sizes, which only show that everything runs.")
    ] = False,
    cpu: Annotated[
        bool,
        typer.Option("--cpu-time", help="Read processor time instead of the wall clock."),
    ] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the results as JSON.")
    ] = None,
    read: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Measure nothing; take results saved before."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write a Markdown page.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure speed as ratios against a baseline in the same run; takes minutes."""
    if read is not None and (only or fast or cpu):
        raise ScenarioError("--from measures nothing; leave out --only, --quick and --cpu-time")
    require_file(save)
    require_file(markdown)
    results = _measure(only or [], fast, cpu=cpu, quiet=quiet) if read is None else _read(read)
    if save is not None:
        import json as text

        _write(save, text.dumps(results, indent=2, ensure_ascii=False) + "\n")
    if markdown is not None:
        from arena.bench.page import markdown as page

        _write(markdown, page(results))
    if json:
        write_json(results)
    else:
        _show(results)
    if results["failed"]:
        raise typer.Exit(FAILED)


def _measure(only: list[str], quick: bool, *, cpu: bool, quiet: bool) -> dict[str, Any]:
    from arena.bench.suite import run

    console = err()

    def report(text: str) -> None:
        if not quiet:
            write_line(console, text, to_copy=True)

    return run(only, quick=quick, clock="cpu" if cpu else "wall", report=report)


def _read(path: Path) -> dict[str, Any]:
    import json

    from envs.errors import ArenaError

    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        results["lines"], results["machine"], results["failed"]
    except OSError as error:
        raise ArenaError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else f"no JSON object ({error})"
        raise ArenaError(
            f"expected results that 'arena bench --save' wrote, got {what} in {path}"
        ) from error
    return results


def _write(path: Path, text: str) -> None:
    from envs.atomic_file import whole_file
    from envs.errors import ArenaError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write {path}: {error.strerror}") from error


def _show(results: dict[str, Any]) -> None:
    from arena.bench.page import target, value, verdict

    console = out()
    columns = ("benchmark", "what", "value", "target", "holds")
    rows = [
        (line["group"], line["name"], value(line), target(line), verdict(line))
        for line in results["lines"]
    ]
    write_table(console, columns, rows)
    for name, reason in results["failed"].items():
        write_line(console, f"{name} was not measured: {reason}")
