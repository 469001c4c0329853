"""Checks the pools of a scenario: their options, where they lie, and whether they have enough."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from arena.registry.messages import Path as Place
from arena.registry.parameters import validate_as
from arena.scenario.pools import INSIST, part_of_victims_data
from arena.scenario.schema_parts import DataSpec, VictimDataSpec
from envs.errors import DataMissing, ScenarioError, one_line

# `Any` in this file: parameters as a scenario gives them.


def forget_counts() -> None:
    """Let pools be counted anew: their files may have changed since an earlier scenario."""
    _images.cache_clear()


def check_place(data: DataSpec) -> None:
    """Refuse what the system takes for no path; whether anything is there is looked for later."""
    place = Path(data.root or ".") / str(data.params.get("path", "."))
    try:
        place.exists()
    except (OSError, ValueError) as error:
        raise ScenarioError(f"expected the path of a folder: {one_line(error)[:100]}") from error


def check_pool(pool: DataSpec, path: Place, data: VictimDataSpec) -> None:
    """Check what a pool is told, as far as that can be known before its images are read."""
    from envs.data import own, sources

    info = sources.describe(pool.use)
    hints = {name: info.hints[name] for name in (*info.pool_options, "count")}
    validate_as(hints, pool.params, prefix=(*path, "params"))
    if own.is_own(pool.use):
        sources.digest_of(pool.use, root=pool.root, **pool.params)
    check_place(pool)
    _check_count(pool, data)


def _check_count(pool: DataSpec, data: VictimDataSpec) -> None:
    """Refuse more images, or other classes, than a set has; one that is not here is read later."""
    from envs.data.cutting import require_count

    params: dict[str, Any] = dict(pool.params)
    count, enlarge = params.pop("count", None), params.pop("enlarge", False)
    chosen = params.get("classes") is not None
    if chosen and data.resample:  # another division has a few more or fewer of a class
        count = None
    wanted = None if enlarge else count
    if wanted is None and not chosen:
        return
    found = _images(pool.use, pool.root, json.dumps(params, sort_keys=True))
    if found is not None and wanted is not None:
        require_count(int(wanted), *found)


@cache
def _images(use: str, root: Path | None, params: str) -> tuple[str, int] | None:
    """Name and count what a pool is cut out of; None where it is drawn or not here."""
    from envs.data import sources

    try:
        return sources.counted_pool(use, root=root, **json.loads(params))
    except DataMissing:
        return None


def check_unseen(data: DataSpec, pool: DataSpec, path: Place) -> None:
    """Refuse a pool that is cut out of parts that clones are scored on; copies are found later."""
    from envs.data.images import SCORED

    part = part_of_victims_data(data, pool)
    if part in (*SCORED, "all"):
        way = "" if path == ("traffic", "ood") else f"; {INSIST}"
        raise ScenarioError(
            f"the split '{part}' of '{pool.use}' holds images that clones are scored on; expected "
            f"'train', 'validation' or 'benign'{way}"
        )
