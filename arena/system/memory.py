"""How the process keeps its memory: maps of a network are as large as they are short-lived.

Left alone, glibc gives a large block back to the system when it is freed and asks for it anew, page
by page, at the next request. Requests in which images leave early have maps of ever other sizes and
pay most for it (docs/speed.md has the figures).
"""

import os
import sys

MAPPED = 32 * 2**20
"""Bytes from which a block is the system's own and goes back when it is freed; glibc's largest."""

KEPT = 256 * 2**20
"""Free bytes that the process keeps at most, at the end of its memory."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of `mallopt` (malloc.h)
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


def keep_memory() -> bool:
    """Let this process keep freed blocks for the next request.

    Returns:
        Whether it does so now: not without glibc, and not where the environment says already how
        memory is kept (`MALLOC_TRIM_THRESHOLD_` and its like, `GLIBC_TUNABLES`).
    """
    if not sys.platform.startswith("linux") or _settled():
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    return bool(mallopt(_MMAP_THRESHOLD, MAPPED) and mallopt(_TRIM_THRESHOLD, KEPT))


def half_of_memory() -> int:
    """Return half of the bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _settled() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name in os.environ for name in _SETTINGS)
