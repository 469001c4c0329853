"""How many threads compute: sums of floats depend on it, so that runs write it down."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

THREADS = "torch-threads"
"""Under this name a run's versions tell how many threads computed."""


@contextmanager
def threads_of(versions: Mapping[str, object]) -> Iterator[None]:
    """Compute with as many threads as a run did, by its versions; as now where it does not say."""
    now, then = torch.get_num_threads(), str(versions.get(THREADS, ""))
    torch.set_num_threads(int(then) if then.isdecimal() and int(then) > 0 else now)
    try:
        yield
    finally:
        torch.set_num_threads(now)
