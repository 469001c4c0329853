"""Tells which keys of an episode's plan are settings, and lays plans side by side."""

from collections.abc import Iterable, Mapping

FOLLOW_FROM_THE_SEED = frozenset({"seed", "after", "carried_state"})
"""Keys of an `EpisodePlan` that make no other meeting: what a defender carries over from earlier
episodes follows from players and seeds."""

ONLY_MEASURE = frozenset({"checkpoints", "record", "keep", "metrics"})
"""Keys that change what is written down of an episode, and not its result."""


HOW_PLAYED = ("isolation", "time_limit", "memory_limit")
"""Keys that tell how an episode is played; an episode that ends has the same result by any."""

HOW_ASKED = ("api_key_env", "rate", "batch", "timeout", "permission")
"""Keys of a victim elsewhere that tell how it is asked."""

ONLY_SHOWN = ("class_names",)
"""Keys of a victim that bear on no result."""


def settings_of(plan: Mapping[str, object], *, measuring: bool = True) -> dict[str, object]:
    """Return the plan without the seed, what follows from it, and how it was played.

    Args:
        plan: an `EpisodePlan` in plain values, as the log keeps it.
        measuring: whether to keep the keys that only measure.
    """
    left_out = FOLLOW_FROM_THE_SEED.union(HOW_PLAYED, () if measuring else ONLY_MEASURE)
    settings = {key: value for key, value in plan.items() if key not in left_out}
    victim = settings.get("victim")
    if isinstance(victim, Mapping):
        apart = (*HOW_ASKED, *ONLY_SHOWN)
        settings["victim"] = {key: one for key, one in victim.items() if key not in apart}
    return settings


def flat(value: object, prefix: str = "") -> dict[str, object]:
    """Turn nested tables and lists into dotted paths: {"defender.defence.0.use": "dnf"}."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {prefix: value}
    paths: dict[str, object] = {}
    for key, item in items:
        paths |= flat(item, f"{prefix}.{key}" if prefix else str(key))
    return paths
