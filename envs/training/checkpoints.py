r"""A cache of trained weights, addressed by what they were trained from.

The address of an entry is a digest of its `spec`: everything that bears on the result, as JSON.
A file is one line of header with the SHA-256 of the rest, then the rest as `torch.save` writes
it. It appears under its name complete or not at all: it is written beside, flushed to the disk
and renamed.

Two processes that want the same entry at once: the second waits for the first and recalls what
it made (a lock of the operating system, released even when its holder is killed). Where locks do
not work, on some network file systems, both make the entry and the last one stays, whole.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from platformdirs import user_cache_path
from torch import Tensor

from envs.atomic_file import whole_file
from envs.errors import CacheError
from envs.training.checkpoint_file import (
    JSON,
    Damaged,
    Stored,
    canonical,
    check_like,
    decoded,
    encoded,
)

_log = logging.getLogger(__name__)


def cache_root() -> Path:
    """Return the folder of the cache: ARENA_CACHE, else the user's cache folder."""
    given = os.environ.get("ARENA_CACHE")
    return Path(given) if given else user_cache_path("fortress-arena", appauthor=False)


def content_key(spec: Mapping[str, JSON]) -> str:
    """Digest a spec to 32 hexadecimal digits.

    The order of keys does not matter; every bit of a float does, and 1 differs from 1.0.

    Raises:
        ValueError: the spec holds something JSON cannot, such as NaN, a tensor or a key that is
            no string.
    """
    return hashlib.sha256(canonical(spec).encode()).hexdigest()[:32]


def recall(
    kind: str,
    spec: Mapping[str, JSON],
    *,
    device: torch.device | str = "cpu",
    like: Mapping[str, Tensor] | None = None,
) -> Stored | None:
    """Fetch an entry; None where there is none that can be trusted.

    A file that is damaged, was made from another spec or does not fit `like` is moved aside,
    under the ending `.damaged`, with one warning in the log.

    Args:
        kind: the store: "victim", "exit-heads".
        spec: everything that bears on the result.
        device: where the tensors shall live.
        like: tensors whose names, shapes and dtypes the entry must have, usually the
            `state_dict()` of the network it is for.

    Raises:
        CacheError: the file is there but may not be read.
    """
    path = _path(kind, spec)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CacheError(_refusal("read", path, error)) from error
    try:
        stored = decoded(data, spec, device)
        if like is not None:
            check_like(stored.state, like)
    except Damaged as fault:
        _set_aside(path, str(fault))
        return None
    return stored


def store(kind: str, spec: Mapping[str, JSON], stored: Stored) -> Path:
    """Put an entry into the cache, in place of an older one; return its file.

    Raises:
        CacheError: the folder cannot be written or the disk is full; an older entry is unharmed.
        ValueError: the spec is no plain JSON.
        TypeError: meta is no JSON, or the state holds something else than tensors.
    """
    path = _path(kind, spec)
    data = encoded(spec, stored)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, flush=True) as part:
            part.write_bytes(data)
    except OSError as error:
        raise CacheError(_refusal("write", path, error)) from error
    return path


def remember(
    kind: str,
    spec: Mapping[str, JSON],
    make: Callable[[], Stored],
    *,
    device: torch.device | str = "cpu",
    like: Mapping[str, Tensor] | None = None,
) -> tuple[Stored, bool]:
    """Fetch an entry, or make and store it.

    Args:
        kind: the store.
        spec: everything that bears on the result.
        make: trains; called at most once, by one process at a time.
        device: where the tensors shall live, whether made or recalled.
        like: see `recall`.

    Returns:
        The entry, and whether it was recalled. Where the cache cannot be read or written (a full
        disk, a read-only folder), what was made is returned all the same, and one warning says
        so.
    """
    found = None
    with ExitStack() as stack:
        try:
            found = recall(kind, spec, device=device, like=like)
            if found is None:
                stack.enter_context(_only_maker(_path(kind, spec)))
                found = recall(kind, spec, device=device, like=like)
        except CacheError as error:
            _tell_once(cache_root(), str(error))
        if found is not None:
            _count(recalled=1)
            return found, True
        made = make()
        _count(made=1)
        try:
            store(kind, spec, made)
        except CacheError as error:
            _tell_once(cache_root(), str(error))
    state = {name: tensor.detach().to(device) for name, tensor in made.state.items()}
    return Stored(state, json.loads(json.dumps(made.meta))), False


class Uses:
    """How often an entry was made, and recalled, while `counted_uses` counted."""

    made = recalled = 0


_counting: list[Uses] = []


@contextmanager
def counted_uses() -> Iterator[Uses]:
    """Count what `remember` makes and recalls inside this block."""
    uses = Uses()
    _counting.append(uses)
    try:
        yield uses
    finally:
        _counting.remove(uses)


def _count(*, made: int = 0, recalled: int = 0) -> None:
    for uses in _counting:
        uses.made += made
        uses.recalled += recalled


def require_writable() -> None:
    """Check that entries can be kept, before anything is made for that alone.

    Raises:
        CacheError: the folder cannot be written.
    """
    path = cache_root() / "probe"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_bytes(b"")
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CacheError(_refusal("write", path, error)) from error


_told: set[Path] = set()  # caches that this process said it goes on without


def _tell_once(root: Path, reason: str) -> None:
    if root not in _told:
        _told.add(root)
        _log.warning("%s; going on without, so that what is not in it is trained anew", reason)


def _path(kind: str, spec: Mapping[str, JSON]) -> Path:
    return cache_root() / kind / f"{content_key(spec)}.pt"


def _set_aside(path: Path, reason: str) -> None:
    """Move a file out of the way, and say so; one that cannot be moved is overwritten later."""
    with suppress(OSError):
        os.replace(path, path.with_suffix(".damaged"))
    _log.warning("cached file %s is not used: %s; it is made anew", path, reason)


def _refusal(verb: str, path: Path, error: OSError) -> str:
    return (
        f"cannot {verb} the cache in {path.parent}: {error.strerror or error}; "
        "free space, change its permissions, or set ARENA_CACHE to another folder"
    )


@contextmanager
def _only_maker(path: Path) -> Iterator[None]:
    """Wait until no other process makes this entry, and keep others waiting.

    The lock file is removed while the lock is held. Who waited on the removed file goes on and
    looks for the entry again, so that nothing depends on the file's existence.
    """
    lock = path.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CacheError(_refusal("write", path, error)) from error
    try:
        _lock(handle, path)
        yield
    finally:
        with suppress(OSError):
            os.unlink(lock)
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    """Take the lock on an open file; without effect where the system has none."""
    try:
        import fcntl
    except ImportError:  # Windows: both make the entry, the last one stays
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        _log.info("waiting for another process that makes %s", path.name)
    except OSError:  # a file system without locks
        return
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
