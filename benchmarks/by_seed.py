"""Compares figures seed by seed."""

from collections.abc import Mapping


def minus(left: Mapping[int, float], right: Mapping[int, float]) -> list[float]:
    """Return the differences, seed by seed, of what both sides have."""
    return [left[seed] - right[seed] for seed in sorted(left.keys() & right.keys())]
