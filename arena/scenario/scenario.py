"""A scenario: one question to the arena, asked of every pairing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import PrivateAttr, ValidationError

from arena.registry.messages import problems, value_text
from arena.scenario.checking import check
from arena.scenario.plain_values import faults_of
from arena.scenario.plan import EpisodePlan
from arena.scenario.planning import plans_of
from arena.scenario.point_table import set_in, table_of
from arena.scenario.renames import with_new_names
from arena.scenario.schema import VERSION, ScenarioFile
from arena.scenario.sweep_spec import SearchSpec
from arena.scenario.sweeps import with_sweeps
from envs.errors import ScenarioError, shortened

# `Any` in this file: tables as TOML gives them, before they are validated.


class Scenario(ScenarioFile):
    """One question to the arena: every attacker against every defender with every seed."""

    _path: Path | None = PrivateAttr(default=None)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def parse(cls, raw: Mapping[str, Any], path: Path | None = None) -> "Scenario":
        """Build a scenario from a table such as a TOML file gives.

        Args:
            raw: the table.
            path: the file it was read from.

        Raises:
            ScenarioError: one line for each problem.
        """
        faults = _version_faults(raw)
        raw, warnings = with_new_names(raw)
        if unplain := faults_of(raw):
            raise ScenarioError("\n".join([*faults, *unplain]))
        raw = with_sweeps(raw)
        try:
            scenario = cls.model_validate(dict(raw) | ({"version": VERSION} if faults else {}))
        except ValidationError as error:
            faults += problems(error, cls, raw=raw)
        if faults:
            raise ScenarioError("\n".join(faults))
        scenario._path, scenario._warnings = path, tuple(warnings)
        return scenario

    @property
    def path(self) -> Path | None:
        """The file it was read from."""
        return self._path

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each player whose parameters go by a name of an older version."""
        return self._warnings

    @property
    def drawn_seed(self) -> int | None:
        """The seed that was drawn because the file names none; None where it does."""
        return None if "seeds" in self.model_fields_set else self.seeds[0]

    @property
    def text(self) -> str:
        """The scenario as a TOML file: what was written, overrides applied, seeds as drawn."""
        written = self.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        return tomli_w.dumps(written | {"seeds": list(self.seeds)})

    def check(self) -> None:
        """Check every name and every parameter against what exists.

        Raises:
            ScenarioError: one line for each problem.
        """
        points = self._points()
        check([point for _, point in points])
        if self.search is None:
            _refuse_twins(points)

    @property
    def points(self) -> "tuple[Scenario, ...]":
        """The scenario at each setting of its sweep; itself where it has none.

        Of a search, at some of the settings that it may choose; see `SweepSpec.points`.

        Raises:
            ScenarioError: a point that cannot be built.
        """
        return tuple(point for _, point in self._points())

    def _points(self) -> "list[Point]":
        if self.sweep is None:
            return [({}, self)]
        tables = {json.dumps(one, sort_keys=True): one for one in self.sweep.points()}
        return [(values, self.at(values)) for values in tables.values()]

    @property
    def search(self) -> SearchSpec | None:
        """What the sweep searches for; None where its points are known before it is played."""
        return None if self.sweep is None else self.sweep.search

    def at(self, values: Mapping[str, Any]) -> "Scenario":
        """Return the scenario with values set, by keys as `--set` takes them, and no sweep.

        Raises:
            ScenarioError: it cannot be built.
        """
        table = table_of(self)
        table.pop("sweep", None)
        faults = set_in(table, values)
        try:
            point = Scenario.parse(table, self._path)
        except ScenarioError as error:
            faults += str(error).splitlines()
        if faults:
            where = _values_text(values)
            raise ScenarioError("\n".join(f"sweep at {where}: {fault}" for fault in faults))
        return point

    def plans(self) -> list[EpisodePlan]:
        """Resolve the episodes: points x attackers x defenders x seeds, the seeds innermost.

        A meeting that is alike at several points is one game.

        Raises:
            ArenaError: a player's name or parameter does not exist.
            ScenarioError: it is a search, whose points follow from results.
        """
        if self.search is not None:
            raise ScenarioError(f"{self.name}: sweep.search: its points follow from results, so "
                                f"that they are known when they are played")  # fmt: skip
        found: dict[str, EpisodePlan] = {}
        for values, point in self._points():
            for plan in _titled(plans_of(point), values):
                found.setdefault(plan.hash, plan)
        return list(found.values())

    def plans_at(self, values: Mapping[str, Any]) -> list[EpisodePlan]:
        """Resolve the episodes at one point of a sweep; see `at`."""
        return _titled(plans_of(self.at(values)), values)


Point = tuple[Mapping[str, Any], Scenario]
"""Values that a sweep sets, and the scenario with them."""


def _refuse_twins(points: Sequence[Point]) -> None:
    """Refuse points that are one and the same game, although their values differ.

    Raises:
        ScenarioError: names the first two.
    """
    if len(points) < 2:
        return
    first: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for values, point in points:
        twin = first.setdefault(tuple(plan.hash for plan in plans_of(point)), values)
        if twin is not values:
            raise ScenarioError(
                f"sweep: {_values_text(twin)} and {_values_text(values)} make one and the same "
                f"game; take one of them out"
            )


def _titled(plans: list[EpisodePlan], values: Mapping[str, Any]) -> list[EpisodePlan]:
    return [plan.titled(_values_text(values)) for plan in plans] if values else plans


def _values_text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_shown(value)}" for key, value in values.items())


def _shown(value: object) -> str:
    return shortened(json.dumps(value), 80) if isinstance(value, Mapping) else value_text(value)


def _version_faults(raw: Mapping[str, Any]) -> list[str]:
    version = raw.get("version")
    if version is None:
        return [f"version: missing; begin the file with version = {VERSION}"]
    if version == VERSION and not isinstance(version, bool):
        return []
    return [
        f"version: this program reads version {VERSION} of scenario files, "
        f"got {value_text(version)}; install the release that wrote it"
    ]
