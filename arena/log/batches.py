"""Divides many ids into as many as one query asks for."""

from collections.abc import Iterable, Iterator

BATCH = 500
"""Databases bound the parameters of a statement, and memory the rows of its answer."""


def batches(ids: Iterable[str]) -> Iterator[list[str]]:
    """Give ids in their order, a few hundred at a time."""
    every = list(ids)
    for begin in range(0, len(every), BATCH):
        yield every[begin : begin + BATCH]
