"""Provides what all commands share: consoles, error messages and common options.

Imports nothing heavy, because `arena --help` loads it.
"""

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from arena.runner.stopping import STOP
from arena.system.shadowing import ShadowedPackage
from envs.errors import ArenaError, ScenarioError, UnknownName, one_line, printable

# `Any` in this file: contexts and results of click, which Typer vendors or imports by its version.

FAILED = 1
USAGE = 2


def out() -> Console:
    """Return the console for results, on standard output."""
    return Console(highlight=False, emoji=False)


def err() -> Console:
    """Return the console for progress and errors, on standard error."""
    return Console(stderr=True, highlight=False, emoji=False)


def is_live(console: Console) -> bool:
    """Whether a console can draw: a terminal that moves its cursor (not TERM=dumb)."""
    return console.is_terminal and not console.is_dumb_terminal


class ArenaGroup(TyperGroup):
    """The root of all commands: reports an error in one line and sets the exit code.

    `--debug`, anywhere on the line, shows the traceback instead.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move `--debug` to the front, where the root's options are."""
        if "--debug" in args:
            args = ["--debug", *(word for word in args if word != "--debug")]
        return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        """Run the command and report its error, unless click reports it as one of usage."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            tell("interrupted")
            raise typer.Exit(STOP.exit_code) from None
        except BrokenPipeError:  # the reader closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None
        except SystemExit as error:  # of a plug-in; a command ends by typer.Exit
            if isinstance(error.__context__, BrokenPipeError):  # rich's answer to a closed pipe
                raise typer.Exit(FAILED) from None
            tell(f"{one_line(error)}; code of a plug-in asked the program to end")
            raise typer.Exit(FAILED) from None
        except Exception as error:
            # click ends commands by exceptions of its own, all of which know their exit code
            if hasattr(error, "exit_code") or isinstance(error, typer.Abort):
                raise
            if ctx.params.get("debug"):
                traceback.print_exc()
                raise typer.Exit(exit_code_of(error)) from None
            tell(words_of(error))
            raise typer.Exit(exit_code_of(error)) from None


class WithDefault(TyperGroup):
    """A group of commands in which `list` may be left out: `arena episodes --json`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` in front where no command is named."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["list", *args]
        return list(super().parse_args(ctx, args))


def tell(text: str) -> None:
    """Write a message to standard error."""
    err().print(f"arena: {printable(text)}", markup=False, soft_wrap=True)


def words_of(error: Exception) -> str:
    """Describe an error to a user: ours by all its lines, a bug by one and the way to see more."""
    if isinstance(error, ArenaError | ShadowedPackage):
        return str(error)
    return f"{one_line(error)}; run again with --debug to see where"


def exit_code_of(error: Exception) -> int:
    """Return 2 for a scenario or a name that the user got wrong, 1 for any other error."""
    return USAGE if isinstance(error, ScenarioError | UnknownName | ShadowedPackage) else FAILED


def pick_device(name: str | None) -> str:
    """Return the named device, or else an accelerator if there is one."""
    if name is not None:
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Override a key: threat.budget=20_000 or attackers.dfme.params.batch=32.",
    ),
]
LogOption = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="FILE|URL",
        help="The log: a file or an SQLAlchemy URL. Default: ARENA_LOG, else arena.db.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda or cuda:1. Default: an accelerator, else cpu."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON only.")]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-plugins", help="Import players' files that are named; it runs them."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A scenario file, or the name of a shipped scenario.")
]
