"""Finds scenario files, reads them, and lets one inherit from another."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from arena.registry.messages import value_text
from arena.scenario.overrides import apply_overrides
from arena.scenario.scenario import Scenario
from arena.system.shadowing import ROOT
from envs.errors import ScenarioError, UnknownName, one_line, shortened
from envs.loading.imports import is_file_use, is_model_file, split_file_use

# `Any` in this file: tables as TOML gives them, before they are validated.

# Found by folder rather than by import, because many users have a folder `scenarios` of their own.
_SHIPPED = ROOT / "scenarios"

# keys that may name path/to/file.py:Class, or the file of a network
_FILES_IN = ("use", "data", "pool", "ood", "victim", "clone", "defence", "wrappers")
_WEIGHTS = "weights"  # of a network, beside its `use`
_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")


@cache  # a check of many files looks through the folder once
def shipped() -> Mapping[str, Path]:
    """Return the scenarios that come with the arena, by name ("quickstart", "attackers/dfme")."""
    return {
        path.relative_to(_SHIPPED).with_suffix("").as_posix(): path
        for path in sorted(_SHIPPED.rglob("*.toml"))
    }


def load(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario. Names of players and networks are looked up by `Scenario.check`.

    Args:
        path_or_name: a file, or the name of a scenario that comes with the arena.
        overrides: "path.to.key=value", applied in their order after everything inherited.

    Raises:
        ScenarioError: one line for each problem.
        UnknownName: no file, and no scenario of that name.
    """
    path = find(path_or_name)
    try:
        raw = read(path)
        faults = apply_overrides(raw, overrides)
        return build(raw, str(path_or_name), path=path, faults=faults)
    except RecursionError:
        raise ScenarioError(f"{path_or_name}: its tables are nested too deeply") from None


def build(
    raw: dict[str, Any], where: str, *, path: Path | None = None, faults: Sequence[str] = ()
) -> Scenario:
    """Build a scenario from a table.

    Args:
        raw: the table.
        where: what messages call it.
        path: the file it comes from, which names it where it has no name.
        faults: problems found before.

    Raises:
        ScenarioError: one line for each problem.
    """
    if path is not None:
        raw.setdefault("name", path.stem)
    faults = list(faults)
    try:
        scenario = Scenario.parse(raw, path)
    except ScenarioError as error:
        faults += str(error).splitlines()
    if faults:
        raise ScenarioError(told_of(where, faults))
    return scenario


def told_of(where: str, faults: Sequence[str]) -> str:
    """Word the problems of a scenario: on its line where there is one, else below it."""
    if len(faults) == 1:
        return f"{where}: {faults[0]}"
    return f"{where}: {len(faults)} problems" + "".join(f"\n  {fault}" for fault in faults)


def find(path_or_name: str | Path, *, beside: Path | None = None) -> Path:
    """Find a scenario file by path (relative to `beside`, if given) or by shipped name."""
    text = str(path_or_name)
    try:
        path = Path(path_or_name).expanduser()
        if beside is not None:
            path = beside / path
        if path.is_file():
            return path
        is_folder = path.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, an unknown ~user
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise ScenarioError(
            f"{shortened(value_text(text), 80)}: no path of a file: {reason}"
        ) from error
    if text in shipped():
        return shipped()[text]
    if path.suffix == ".toml" or is_folder:
        what = "a folder" if is_folder else "no such file"
        raise ScenarioError(
            f"{text}: {what}; expected a TOML file or a name that 'arena scenarios list' shows"
        )
    raise UnknownName("scenario", text, shipped())


def read(path: Path, chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file and everything it extends; a list or a value replaces the inherited one."""
    own = path.resolve()
    if own in chain:
        cycle = " -> ".join(step.name for step in [*chain[chain.index(own) :], own])
        raise ScenarioError(f"{path}: extends: goes round in a circle: {cycle}")
    raw = _parse(path)
    _anchor(raw, own.parent)
    base = raw.pop("extends", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise ScenarioError(f"{path}: extends: expected the path of a scenario, got {base!r}")
    try:
        inherited = read(find(base, beside=own.parent), (*chain, own))
    except UnknownName as error:
        raise ScenarioError(f"{path}: extends: {error}") from error
    inherited.pop("name", None)
    return merge(inherited, raw)


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # as some editors begin a file
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text"
        raise ScenarioError(f"{path}: {reason}") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        line = int(place[1]) if place else len(text.splitlines())
        said = _PLACE.sub("", message).replace("(at end of document)", "").strip()
        raise ScenarioError(f"{path}:{line}: not TOML: {said}") from None
    except ValueError as error:  # a number of more digits than Python reads
        raise ScenarioError(f"{path}: not TOML: {one_line(error)}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another; tables are merged at every depth, all else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def _anchor(value: Any, folder: Path, key: str = "") -> Any:
    """Make the files that a scenario names, where they lie beside it, independent of who reads it.

    What is not there is left as it is, to be looked for in the working directory.
    """
    if isinstance(value, list):
        value[:] = [_anchor(item, folder, key) for item in value]
    elif isinstance(value, dict):
        for name, item in value.items():
            of_network = name != _WEIGHTS or "use" in value
            value[name] = _anchor(item, folder, name if of_network else "")
    return _anchored(key, value, folder) if isinstance(value, str) else value


def _anchored(key: str, text: str, folder: Path) -> str:
    try:
        if key in _FILES_IN and is_file_use(text):
            file, name = split_file_use(text)
            here = folder / file
            return f"{here.resolve()}:{name}" if here.is_file() else text
        if key == _WEIGHTS or (key in _FILES_IN and is_model_file(text)):
            here = folder / Path(text).expanduser()
            return str(here.resolve()) if here.is_file() else text
        if key == "root":
            here = folder / Path(text).expanduser()
            return str(here.resolve()) if here.is_dir() else text
    except (OSError, ValueError, RuntimeError):  # no path at all, which the checks will say
        return text
    return text
