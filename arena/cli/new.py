"""`arena new`: a plug-in or a scenario to start from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import out
from arena.cli.render import write_line

if TYPE_CHECKING:
    from arena.registry.catalog import Kind

app = typer.Typer(
    no_args_is_help=True,
    help="Make a plug-in to start from (a player, its test and a scenario), or a scenario.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name in scenarios: slow-hunter.")]
Folder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to create it.")]


@app.command()
def attacker(name: Name, folder: Folder = Path()) -> None:
    """Create an attacker: it queries the victim and trains a clone."""
    _create("attacker", name, folder)


@app.command()
def defence(name: Name, folder: Folder = Path()) -> None:
    """Create a defence: a mechanism that changes answers."""
    _create("defence", name, folder)


@app.command()
def defender(name: Name, folder: Folder = Path()) -> None:
    """Create a defender: it chooses a countermeasure for each request."""
    _create("defender", name, folder)


@app.command()
def scenario(name: Name, folder: Folder = Path()) -> None:
    """Create a short scenario with comments, ready to be played."""
    from arena.cli.scaffold import create_scenario

    path = create_scenario(name, folder)
    write_line(out(), str(path))
    write_line(out(), f"next: arena scenarios check {path} && arena run {path}", to_copy=True)


def _create(kind: "Kind", name: str, folder: Path) -> None:
    from arena.cli.scaffold import create

    files = create(kind, name, folder)
    console = out()
    for path in files:
        write_line(console, str(path))
    package = files[0].parent
    told = f"next: cd {package.parent} && pytest && arena run {package.name}.toml"
    write_line(console, told, to_copy=True)
