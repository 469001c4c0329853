"""Stores a save for each unfinished episode, in LOG.saves/ beside the log.

A save is a header `EPISODE.json` and the file of state it names. The state is written first, then
the header moves into place; whoever is killed in between leaves the save before whole. At most two
states of an episode lie there, and only for the moment in which the newer replaces the older.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from arena.log.artifacts import is_plain
from arena.log.engine import resolve
from arena.runner.saves import sealing
from arena.runner.saves.header import Save, read_header
from arena.runner.saves.snapshots import Snapshot, Write
from envs.atomic_file import LEFT, whole_file
from envs.errors import SaveError
from envs.training.checkpoints import cache_root

SUFFIX = ".saves"


class SaveStore:
    """The saves of one log.

    Args:
        where: the log, as it was named. Saves of a log that is no file lie in the cache.
    """

    def __init__(self, where: str) -> None:
        address = resolve(where)
        if address.path is not None:
            self.folder = address.path.with_name(address.path.name + SUFFIX)
        else:
            name = hashlib.sha256(address.where.encode()).hexdigest()[:16]
            self.folder = cache_root() / "saves" / name

    def put(
        self,
        episode: str,
        plan: str,
        snapshot: Snapshot,
        *,
        queries_used: int,
        mark: dict[str, int],
    ) -> Save:
        """Keep a state in the place of the episode's last one.

        Raises:
            SaveError: it cannot be written as a file.
            OSError: no room, no rights.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        before = self.find(episode)
        number = before.number + 1 if before else 1
        path = self.folder / f"{episode}-{number}.pt"
        for left in self._left(episode):
            left.unlink(missing_ok=True)
        try:
            _put(path, snapshot.write)
        except FileNotFoundError:  # another process dropped the last save, and with it the folder
            self.folder.mkdir(parents=True, exist_ok=True)
            _put(path, snapshot.write)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        save = Save(
            episode, plan, queries_used, number, path.name, digest, path.stat().st_size, mark,
            snapshot.pickled,
        )  # fmt: skip
        if save.pickled:
            save = replace(save, seal=sealing.seal(asdict(save)))
        text = json.dumps(asdict(save)).encode()

        def header(file: IO[bytes]) -> None:
            file.write(text)

        _put(self._header(episode), header)
        for old in self.folder.glob(f"{episode}-*.pt"):
            if old != path:
                old.unlink(missing_ok=True)
        return save

    def find(self, episode: str) -> Save | None:
        """Return the header of an episode's save; None where there is none that can be read."""
        if not is_plain(episode):  # an id from a log that somebody made
            return None
        save = read_header(self._header(episode))
        if save is None or save.episode != episode or save.file != f"{episode}-{save.number}.pt":
            return None
        return save

    def open(self, save: Save) -> IO[bytes]:
        """Open the state of a save, once it is sure to be the one that was written.

        Raises:
            SaveError: the file is gone or was altered, or it is a pickle that this user did not
                write.
        """
        if save.pickled and not sealing.is_own(asdict(save), self.folder / save.file):
            raise SaveError(f"its save {self.folder / save.file} is a pickle, which can run code, "
                            f"and was not written by this user with this cache")  # fmt: skip
        path = self.folder / save.file
        if not path.is_file():  # a pipe or a device has no end
            raise SaveError(f"its save {path} is gone")
        try:
            file = path.open("rb")
        except OSError as error:
            raise SaveError(f"its save {path} cannot be read: {error.strerror}") from error
        whole = path.stat().st_size == save.bytes
        if not whole or hashlib.file_digest(file, "sha256").hexdigest() != save.sha256:
            file.close()
            raise SaveError(f"its save {path} is damaged")
        file.seek(0)
        return file

    def drop(self, episode: str) -> None:
        """Remove an episode's save, if it has one."""
        if not is_plain(episode):
            return
        for path in (
            self._header(episode), *self.folder.glob(f"{episode}-*.pt"), *self._left(episode)
        ):  # fmt: skip
            with suppress(OSError):  # a folder that somebody put there
                path.unlink(missing_ok=True)
        with suppress(OSError):  # others' saves lie there
            self.folder.rmdir()

    def drop_plan(self, plan: str) -> None:
        """Remove the saves of all attempts at a plan: it was played to its end."""
        if not self.folder.is_dir():
            return
        for header in self.folder.glob("*.json"):
            save = self.find(header.stem)
            if save is not None and save.plan == plan:
                self.drop(save.episode)

    def _header(self, episode: str) -> Path:
        return self.folder / f"{episode}.json"

    def _left(self, episode: str) -> list[Path]:
        """List what was being written when somebody was killed."""
        return list(self.folder.glob(f".{episode}*{LEFT}"))


def _put(path: Path, write: Write) -> None:
    """Write a file that only its owner may read."""
    with whole_file(path, flush=True) as part:
        part.touch(mode=0o600)
        with part.open("wb") as file:
            write(file)
