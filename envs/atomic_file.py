"""Files that appear under their name complete or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEFT = ".part"
"""How the name of what a killed writer left behind ends; it begins with a dot and the file's."""

_DATABASE = b"SQLite format 3\0"


def refuse_database(path: Path) -> None:
    """Refuse to write over an SQLite database, as logs are. Raises OSError, if there is one."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        if file.read(len(_DATABASE)) == _DATABASE:
            raise FileExistsError(errno.EEXIST, "it is a log; name another file", str(path))


@contextmanager
def whole_file(path: Path, *, flush: bool = False) -> Iterator[Path]:
    """Lend a name beside a file, and move what was written there to the file when all went well.

    Whoever reads the file finds the old content or the new, at any moment; of several writers the
    last one's stays. A device or a pipe (/dev/stdout) is no file to replace: its own name is lent.

    Args:
        path: of the file; its folder is there.
        flush: wait until the disk has the content, so that it is whole also when the power goes.

    Raises:
        OSError: no room, no rights; a database (a log) lies there, which no writer of files means.
    """
    refuse_database(path)
    if path.exists() and not path.is_file():
        yield path
        return
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{LEFT}")
    try:
        yield part
        if flush:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
