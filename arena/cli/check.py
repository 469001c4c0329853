"""`arena check`: run the conformance suite on a player."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from arena.cli.common import FAILED, JsonOption, out
from arena.cli.render import write_json, write_line, write_table
from arena.runner.stopping import stopping
from arena.system.output import stdout_to_stderr
from arena.system.staying import staying
from envs.errors import ScenarioError, UnknownName

if TYPE_CHECKING:
    from arena.conformance import Claim

# `Any` in this file: parameters of a player, whatever it declares.

# the kinds of the catalog, which is not imported for `arena --help`
Kind = Literal["attacker", "defender", "defence"]


def check(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A registered name, or file.py:Class.")
    ],
    kind: Annotated[
        Kind | None, typer.Option(help="Kind of player, where the name is ambiguous.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="NAME=VALUE", help="Set a parameter of the player."),
    ] = None,
    shape: Annotated[str, typer.Option(metavar="C,H,W", help="Shape of the images.")] = "3,8,8",
    json: JsonOption = False,
) -> None:
    """Check a player with the conformance tests: small games that take a few seconds."""
    # what the player prints is no result, and it does not end the check
    with stdout_to_stderr(), staying(), stopping():
        make = _maker(target, kind, set_ or [])

        from arena.conformance import check as run_checks

        findings = run_checks(make, image_shape=_shape(shape))
    failed = [finding for finding in findings if not finding.passed]
    if json:
        write_json({"target": target, "passed": not failed, "findings": findings})
    else:
        rows = [(one.name, _verdict(one), one.detail) for one in findings]
        write_table(out(), ("claim", "verdict", "detail"), rows)
        verdict = f"breaks {len(failed)} of {len(findings)} claims" if failed else "conforms"
        write_line(out(), f"{target}: {verdict}")
    if failed:
        raise typer.Exit(FAILED)


def _verdict(finding: "Claim") -> str:
    if not finding.passed:
        return "FAILED"
    return "warning" if finding.warning else "passed"


def _maker(target: str, kind: Kind | None, settings: list[str]) -> Callable[[], Any]:
    """Return a function that builds a new player."""
    from arena.registry import players
    from arena.registry.parameters import validated
    from arena.scenario.overrides import apply_overrides

    raw: dict[str, Any] = {}
    faults = apply_overrides(raw, settings)
    if faults:
        raise ScenarioError("\n".join(faults))
    found = players.of(kind).find(target) if kind else _find(target)
    return cast(Callable[[], Any], partial(found, **validated(found, raw, prefix=(target,))))


def _find(target: str) -> type:
    """Find a name among all kinds of players; the base of a class in a file tells its kind."""
    from arena.registry import players
    from arena.registry.catalog import KINDS
    from envs.loading import imports as plugins

    if plugins.is_file_use(target):
        return players.find_in_file(target)
    if target.endswith(".py"):
        raise ScenarioError(f"expected FILE.py:CLASS, as in {target}:MyAttack, got '{target}'")
    kinds = [kind for kind in KINDS if target in players.of(kind).names()]
    if not kinds:
        names = {name for kind in KINDS for name in players.of(kind).names()}
        raise UnknownName("attacker, defender or defence", target, names)
    if len(kinds) > 1:
        raise ScenarioError(f"'{target}' names a {' and a '.join(kinds)}; choose one with --kind")
    return players.of(kinds[0]).find(target)


def _shape(text: str) -> tuple[int, int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise ScenarioError(f"--shape: expected channels,height,width like 3,8,8, got '{text}'")
    channels, height, width = (int(part) for part in parts)
    return channels, height, width
