"""`arena scenarios`: list, show and check scenario files."""

from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import (
    USAGE,
    FileArgument,
    JsonOption,
    SetOption,
    TrustOption,
    WithDefault,
    out,
    tell,
)
from arena.cli.loading import load_one
from arena.cli.render import write_json, write_line, write_table
from arena.report.formatting import counted
from envs.errors import ScenarioError, UnknownName

if TYPE_CHECKING:
    from arena.scenario import Scenario

app = typer.Typer(cls=WithDefault, help="List, show and check scenarios.")


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the scenarios that come with the arena."""
    from arena.scenario import load, shipped

    found = [(name, path, load(path)) for name, path in shipped().items()]
    if json:
        fields = {"description", "tags"}
        write_json(
            [
                {"name": name, **one.model_dump(include=fields), "episodes": one.size, "path": path}
                for name, path, one in found
            ]
        )
        return
    rows = [(name, str(one.size), one.data.use, one.description) for name, _, one in found]
    columns = ("name", "episodes", "data", "question")
    write_table(out(), columns, rows, right=columns[1:2], optional=columns[2:0:-1])


@app.command()
def show(file: FileArgument, set_: SetOption = None, json: JsonOption = False) -> None:
    """Show a scenario as it is played: with inherited and overridden values and drawn seeds."""
    from arena.scenario import load

    scenario = load(file, set_ or ())
    if json:
        write_json(scenario.model_dump(mode="json"))
    else:
        write_line(out(), scenario.text.rstrip(), to_copy=True)


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...")],
    set_: SetOption = None,
    trust_plugins: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Check every key, name and parameter of scenarios, and look for the files they need."""
    verdicts: list[dict[str, object]] = []
    for file in files:
        try:
            scenario = load_one(file, set_, trust_plugins=trust_plugins)
        except (ScenarioError, UnknownName) as error:
            verdicts.append({"file": file, "ok": False, "problems": str(error).splitlines()})
            if not json:
                tell(str(error))
        else:
            missing = _missing(scenario)
            verdicts.append(
                {"file": file, "ok": True, "episodes": scenario.size, "problems": [],
                 "missing": missing}
            )  # fmt: skip
            if not json:
                told = "".join(f"\n  not here yet: {line}" for line in missing)
                write_line(out(), f"{file}: OK, {counted(scenario.size, 'episode')}{told}")
    if json:
        write_json(verdicts)
    if not all(verdict["ok"] for verdict in verdicts):
        raise typer.Exit(USAGE)


def _missing(scenario: "Scenario") -> list[str]:
    """Tell which files a scenario needs to be played, and does not find here: a line for each."""
    from arena.scenario.required_files import require_files
    from envs.errors import DataMissing

    try:
        require_files(scenario)
    except DataMissing as missing:
        return str(missing).splitlines()
    return []


@app.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from arena.scenario.file_schema import file_schema

    write_json(file_schema())


@app.command()
def reference() -> None:
    """Print the reference of scenario files: every key, its type, range, default and meaning."""
    from arena.scenario.reference import reference as page

    write_line(out(), page().rstrip(), to_copy=True)
