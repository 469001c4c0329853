"""Checks an attacker of others in a process of its own, where its file is imported."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from arena.isolation import launch
from arena.registry import players
from arena.registry.catalog import Catalog
from envs.errors import ArenaError, ScenarioError, one_line
from envs.loading import imports

# `Any` in this file: JSON, and parameters of players.

_SECONDS = 120.0
_LINES = 50

_known: dict[str, dict[str, Any]] = {}


class Grants(NamedTuple):
    """What the threat model grants an attacker."""

    labels: str
    latency_visible: bool
    pool: bool


class Said(NamedTuple):
    """What a scenario says of an attacker or a wrapper."""

    use: str
    params: Mapping[str, Any]


def is_apart(attacker: Said, wrappers: Sequence[Said]) -> bool:
    """Tell whether code of others belongs to an attacker, so that it is not imported here."""
    return any(launch.is_of_others(one.use) or launch.uses_in(one.params)
               for one in (attacker, *wrappers))  # fmt: skip


def described(
    attacker: Said, wrappers: Sequence[Said], *, name: str, grants: Grants | None = None
) -> dict[str, Any]:
    """Check an attacker in a process of its own, and resolve its parameters.

    Args:
        attacker: as a scenario says.
        wrappers: likewise.
        name: how the scenario calls it.
        grants: to check that it gets what it needs; not checked if absent.

    Returns:
        parameters with defaults filled in, and digests of code, as a plan has them.

    Raises:
        ScenarioError: one line for each problem.
        PlayerError: it needs what it is not granted.
    """
    told, digests = _ask(attacker, wrappers, name)
    if grants is not None:
        from agents.base import require_granted

        require_granted(name, _needs(told), **grants._asdict())
    return {"name": name, **_plans(told, attacker, wrappers, digests)}


def required(attacker: Said, wrappers: Sequence[Said], *, name: str) -> frozenset[str]:
    """Return what an attacker needs of the threat model; see `described`."""
    return _needs(_ask(attacker, wrappers, name)[0])


def _needs(told: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(one for one in told["requires"] if isinstance(one, str))


def _ask(
    attacker: Said, wrappers: Sequence[Said], name: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Ask, or recall what was answered before; ScenarioError with one line for each fault.

    Also returns the digests of the files that were asked about: an edited file is another player.
    """
    uses = launch.uses_of((attacker, *wrappers))
    digests = {use: imports.file_digest(use) for use in uses if _is_there(use)}
    question = {"attacker": attacker, "wrappers": wrappers, "name": name}
    key = json.dumps([question, digests], sort_keys=True)
    if key not in _known:
        _known[key] = _told(uses, question)
    told = _known[key]
    if told["faults"]:
        raise ScenarioError("\n".join(told["faults"]))
    return told, digests


def _is_there(use: str) -> bool:
    return imports.is_file_use(use) and imports.split_file_use(use)[0].is_file()


def _plans(
    told: Mapping[str, Any],
    attacker: Said,
    wrappers: Sequence[Said],
    digests: Mapping[str, str],
) -> dict[str, Any]:
    return {
        **_plan(told["attacker"], attacker.use, digests),
        "wrappers": [
            _plan(one, wrapper.use, digests)
            for one, wrapper in zip(told["wrappers"], wrappers, strict=True)
        ],
    }


def _plan(told: Any, use: str, digests: Mapping[str, str]) -> dict[str, Any]:
    """Take parameters from what was told; the file speaks for itself."""
    if not isinstance(told, dict) or not isinstance(told.get("params"), dict):
        raise ScenarioError(f"{use}: its process told no parameters")
    return {"use": use, "params": told["params"], "code": digests.get(use, str(told.get("code")))}


def _told(uses: Sequence[str], question: Mapping[str, object]) -> dict[str, Any]:
    from arena.isolation.channel import ChannelError

    started = launch.start("describe", uses)
    name = str(question["name"])
    try:
        started.channel.receive(_SECONDS)
        started.channel.send("describe", **question)
        told = started.channel.receive(_SECONDS)
    except TimeoutError as error:
        raise ScenarioError(f"{name}: its import takes over {_SECONDS:.0f} s") from error
    except ChannelError as error:
        raise ScenarioError(f"{name}: its process ended while it was imported ({error})") from error
    finally:
        launch.end(started)
    faults = told.get("faults")
    lists = (faults, told.get("wrappers"), told.get("requires"))
    if not all(isinstance(one, list) for one in lists):
        raise ScenarioError(f"{name}: its process told nothing of it")
    return {
        **told,
        "faults": [one_line(ScenarioError(str(one)[:500])) for one in list(faults or ())[:_LINES]],
    }


def describe(question: Mapping[str, Any]) -> dict[str, object]:
    """Answer `described`, in the process of the attacker."""
    attacker = Said(*question["attacker"])
    wrappers = [Said(*one) for one in question["wrappers"]]
    try:
        built = players.create_attacker(
            attacker, wrappers, prefix=("attackers", str(question["name"]))
        )
        return {
            "attacker": _resolved(players.attackers, attacker),
            "wrappers": [_resolved(players.wrappers, one) for one in wrappers],
            "requires": sorted(built.requires),
            "faults": [],
        }
    except ArenaError as error:
        return {"wrappers": [], "requires": [], "faults": str(error).splitlines()}
    except BaseException as error:  # a player's own code raises what it likes
        return {"wrappers": [], "requires": [], "faults": [one_line(error)]}


def _resolved(names: Catalog, said: Said) -> dict[str, object]:
    params, code = names.resolve(said.use, said.params)
    return {"params": params, "code": code}
