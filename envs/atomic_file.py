"""Files that appear under their name complete or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEFT = ".part"
"""How the name of what a killed writer left behind ends; it begins with a dot and the file's."""


@contextmanager
def whole_file(path: Path, *, flush: bool = False) -> Iterator[Path]:
    """Lend a name beside a file, and move what was written there to the file when all went well.

    Whoever reads the file finds the old content or the new, at any moment; of several writers the
    last one's stays. A device or a pipe (/dev/stdout) is no file to replace: its own name is lent.

    Args:
        path: of the file; its folder is there.
        flush: wait until the disk has the content, so that it is whole also when the power goes.

    Raises:
        OSError: no room, no rights.
    """
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
