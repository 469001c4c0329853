"""Reads and checks the scenarios of a command, all of them before the first is played."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from arena.cli.common import tell
from envs.errors import ScenarioError, UnknownName

if TYPE_CHECKING:
    from arena.scenario import Scenario

_RANGE = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


def load_all(files: Sequence[str], overrides: Sequence[str] | None = None) -> "list[Scenario]":
    """Read and check scenarios.

    Raises:
        ScenarioError, UnknownName: the problems of all files, one line each.
    """
    scenarios, faults = [], []
    for file in files:
        try:
            scenarios.append(load_one(file, overrides))
        except (ScenarioError, UnknownName) as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise ScenarioError("\n".join(str(fault) for fault in faults))
    return scenarios


def load_one(
    file: str, overrides: Sequence[str] | None = None, *, trust_plugins: bool = True
) -> "Scenario":
    """Read one scenario and check every name in it.

    Args:
        file: the file, or the name of a shipped scenario.
        overrides: `KEY=VALUE`, each.
        trust_plugins: whether files that it names may be imported; that is so where the user plays
            it.

    Raises:
        ScenarioError, UnknownName: its problems, one line each, or the files that are not trusted.
    """
    from arena.registry.trust import require_trust
    from arena.scenario import load
    from arena.scenario.reading import told_of

    scenario = load(file, overrides or ())
    for warning in scenario.warnings:
        tell(f"{file}: {warning}")
    try:
        if not trust_plugins:
            require_trust(scenario.model_dump(mode="json", exclude={"description", "tags"}))
        scenario.check()
    except ScenarioError as error:
        raise ScenarioError(told_of(file, str(error).splitlines())) from error
    return scenario


def refuse_sweep(scenario: "Scenario", why: str) -> None:
    """Refuse a scenario that is played at several settings.

    Raises:
        ScenarioError: it has a sweep.
    """
    if scenario.sweep is not None:
        raise ScenarioError(f"{scenario.name}: sweep: {why}; take the table out, and set its keys")


def same_command(scenarios: "Sequence[Scenario]", *, fresh: bool = False) -> str:
    """Say how a match goes on: by the same command, and with the seeds that were drawn for it."""
    drawn = [f"{one.name} with --seeds {one.drawn_seed}, which was drawn"
             for one in scenarios if one.drawn_seed is not None]  # fmt: skip
    told = f"the same command{' without --fresh' if fresh else ''} goes on"
    return "; ".join([told, *drawn])


def seeds_override(seeds: str | None) -> list[str]:
    """Turn "0,3,5-8" into the override of a scenario's seeds.

    Raises:
        ScenarioError: it is written otherwise.
    """
    if seeds is None:
        return []
    from arena.scenario.schema import MOST_EPISODES

    numbers: list[int] = []
    for part in seeds.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ScenarioError(f"--seeds: expected numbers and ranges like 0,3,5-8, got '{seeds}'")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ScenarioError(f"--seeds: expected the lower end of a range first, got '{part}'")
        if len(numbers) + last - first >= MOST_EPISODES:
            raise ScenarioError(
                f"--seeds: expected at most {MOST_EPISODES} seeds, got '{seeds}'; play them in "
                f"several runs"
            )
        numbers += range(first, last + 1)
    return [f"seeds={numbers}"]
