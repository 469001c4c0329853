"""Tells which part of the victim's own data set a pool is cut out of."""

from collections.abc import Mapping

from arena.scenario.schema_parts import DataSpec

_NO_DIVISION = ("split", "classes", "enlarge", "count", "size", "fit", "grey")
"""Options that choose images out of a part or shape them, and leave the parts as they are."""

INSIST = "threat.allow_test_overlap = true lends it all the same, and marks the episode's row"


def part_of_victims_data(data: DataSpec, pool: DataSpec) -> str | None:
    """Return the part ("train", ..., or "all") that a pool takes from the victim's data set.

    Args:
        data: the victim's data set.
        pool: the pool.

    Returns:
        None where it is drawn, or cut out of another data set or another division of this one.
    """
    from envs.data import sources

    info = sources.describe(pool.use)
    if "split" not in info.pool_options or (pool.use, pool.root) != (data.use, data.root):
        return None
    if _division(info.options, data.params) != _division(info.options, pool.params):
        return None
    return str(pool.params.get("split", info.pool_options["split"]))


def _division(defaults: Mapping[str, object], params: Mapping[str, object]) -> dict[str, object]:
    given = {**defaults, **params}
    return {name: value for name, value in given.items() if name not in _NO_DIVISION}
