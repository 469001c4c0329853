"""What a defender keeps of each client, of a bounded number of them."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def remembered(known: dict[int, T], client: int, most: int, new: Callable[[], T]) -> T:
    """Find what is kept of a client, and put it last; the first is the longest unseen.

    Args:
        known: by client, changed here.
        client: who asks.
        most: clients to remember; for one more the longest unseen is forgotten.
        new: gives what is kept of a client that is not known.
    """
    if client in known:
        kept = known.pop(client)
    else:
        if len(known) >= most:
            del known[next(iter(known))]
        kept = new()
    known[client] = kept
    return kept
