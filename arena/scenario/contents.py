"""Digests the files that a plan reads, so that other contents in one place are another episode.

Files are read whole once. Afterwards a digest is recalled from the cache as long as no file's size,
times and inode change.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from arena.scenario.schema_parts import DataSpec, NetSpec
from envs.atomic_file import whole_file
from envs.errors import ArenaError, DataMissing
from envs.loading.imports import file_digest, is_file_use, short_name

RACY_SECONDS = 2.0
"""A file that changed so recently may change again within one tick of the disk's clock."""


def of_data(data: DataSpec) -> str:
    """Digest the files of a data set; "" where a name stands for one content, or none is there."""
    from envs.data.own import is_own, source_of
    from envs.data.places import free_places
    from envs.data.sources import digest_of

    try:
        if is_own(data.use):
            return digest_of(data.use, root=data.root, **data.params)
        source = source_of(data.use)
    except ArenaError:  # told by the check
        return ""
    places = free_places(data.use, root=data.root, path=data.params.get("path"))
    if not any(place.exists() for place in places):
        return ""
    entries = [entry for place in places for entry in _entries(place, source.reads)]
    if source.path and len(places) == 1 and places[0].is_file():  # its name bears on nothing
        entries = [("", file, stat) for _, file, stat in entries]
    return _remembered([str(place.absolute()) for place in places], entries)


def of_network(net: NetSpec) -> str:
    """Digest the code of a network of others and the weights that a network starts from.

    Returns:
        "" where a name stands for its code, and its weights are drawn.
    """
    from envs.nets import registry
    from envs.nets.weights import file_digest

    try:
        start = registry.start_of(net.use, net.params)
        first = "" if start is None else file_digest(start.path())[:16]
        code = registry.code_digest(net.use)
        given = "" if net.weights is None else "missing"  # which is no game that can be played
        if net.weights is not None and net.weights.is_file():
            given = file_digest(net.weights)
        if not code and not given:
            return first
        return hashlib.sha256(f"{first} {code} {given}".encode()).hexdigest()[:16]
    except (ArenaError, TypeError, ValueError):  # told before anything is played
        return ""
    except OSError as error:
        raise DataMissing(f"cannot read the weights of '{net.use}': {error}") from error


def named_in(params: Mapping[str, object]) -> set[str]:
    """Find the data sets of ours that parameters of a player name, in lists and tables too."""
    from envs.data import sources

    return {text for text in _texts(params) if text in sources.names()}


def own_in(params: Mapping[str, object]) -> set[str]:
    """Find what could be a data set of others among the parameters of a player."""
    from envs.data.own import is_own

    return {text for text in _texts(params) if is_own(text)}


def code_in(params: Mapping[str, object]) -> dict[str, str]:
    """Digest the files of code that parameters of a player name, by what they are to it.

    Players inside it are left out: their tables hold a digest already.
    """
    found = {}
    for text in _texts(params):
        if is_file_use(text):
            with suppress(OSError, ValueError):  # told by the check
                found[f"code {short_name(text)}"] = file_digest(text)
    return found


def _texts(params: Mapping[str, object]) -> Iterator[str]:
    waiting: list[object] = [params]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            own = {key: one for key, one in value.items() if key != "use" or "code" not in value}
            waiting += [*own, *own.values()]
        elif isinstance(value, list | tuple):
            waiting += value


Entry = tuple[str, Path, os.stat_result | None]
"""Name below its place, the file itself, and its state; None for a folder, whose name counts."""


def _entries(place: Path, reads: Callable[[Path], bool]) -> Iterator[Entry]:
    """List a file, or what a reader may read below a folder; not what is hidden."""
    from envs.data.folders import is_hidden

    if place.is_file():
        yield place.name, place, place.stat()
        return
    above: dict[str, tuple[str, ...]] = {str(place): (os.path.realpath(place),)}
    for folder, folders, files in os.walk(str(place), followlinks=True):
        below, ways = Path(folder), above.pop(folder)
        reals = {name: os.path.realpath(below / name) for name in folders if not is_hidden(name)}
        # a link to a folder above would go round without end
        folders[:] = sorted(name for name, real in reals.items() if real not in ways)
        above |= {os.path.join(folder, name): (*ways, reals[name]) for name in folders}
        for name in folders:
            yield (below / name).relative_to(place).as_posix(), below / name, None
        for name in sorted(files):
            file = below / name
            # a link to nothing is no file, neither here nor for who reads the images
            if not is_hidden(name) and reads(file) and file.is_file():
                yield file.relative_to(place).as_posix(), file, file.stat()


def _remembered(places: list[str], entries: list[Entry]) -> str:
    """Recall the digest of files that did not change since; else read them."""
    from envs.training.checkpoints import cache_root

    state = hashlib.sha256()
    newest = 0.0
    for name, _, stat in entries:
        seen = () if stat is None else (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns,
                                        stat.st_ino)  # fmt: skip
        state.update(repr((name, seen)).encode("utf-8", "surrogateescape"))
        if stat is not None:
            newest = max(newest, stat.st_mtime, stat.st_ctime)
    name = hashlib.sha256("\n".join(places).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    file = cache_root() / "contents" / f"{name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(file.read_text())
        if known["state"] == state.hexdigest():
            return str(known["digest"])
    digest = _digest(entries)
    if time.time() - newest > RACY_SECONDS:
        with suppress(OSError):  # it is read again next time
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as part:
                part.write_text(json.dumps({"state": state.hexdigest(), "digest": digest}))
    return digest


def _digest(entries: list[Entry]) -> str:
    """Digest names, as they are below the place, and contents."""
    digest = hashlib.sha256()
    for name, path, stat in entries:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        if stat is not None:
            try:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise DataMissing(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()[:16]
