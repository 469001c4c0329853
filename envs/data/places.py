"""Where the files of data sets lie."""

import os
from pathlib import Path

from envs.data.own import source_of
from envs.errors import DataMissing


def data_root(root: Path | None = None) -> Path:
    """Return where data sets are looked for: `root`, else ARENA_DATA, else ./data."""
    return root if root is not None else Path(os.environ.get("ARENA_DATA") or "data")


def require(
    name: str, *, root: Path | None = None, download: bool = False, path: object = None
) -> None:
    """Check that the files of a source are there, without reading them.

    Args:
        name: one of `names()`.
        root: the data root; see `data_root`.
        download: what is missing may be fetched, so that nothing has to be there.
        path: below the root, where a source takes one.

    Raises:
        UnknownName: no such source.
        DataMissing: nothing is where it should be; the line says what to put where.
    """
    source, place = source_of(name), data_root(root)
    found = (str(path or "."),) if source.path else source.found
    if source.path == "needed" and not path:
        raise DataMissing(f"'{name}' needs {source.needs}; name it with params.path")
    if not found or any((place / one).exists() for one in found):
        return
    fetches = source.downloads
    if fetches and download:
        return
    way = ", or set 'download' to fetch it" if fetches else ""
    raise DataMissing(
        f"no '{name}' in {place / found[0] if source.path else place}: expected "
        f"{source.needs}; put it there, or say where it is with 'root' or ARENA_DATA{way}"
    )


def free_places(name: str, *, root: Path | None = None, path: object = None) -> list[Path]:
    """Say which files and folders a source reads whose content its name does not fix.

    Empty for what is drawn or fetched: there the name and the parameters say what it is.

    Args:
        name: one of `names()`.
        root: the data root; see `data_root`.
        path: below the root, where a source takes one.
    """
    source, place = source_of(name), data_root(root)
    if source.path:
        is_said = bool(path) or source.path == "optional"
        return [place / str(path or ".")] if is_said else []
    if source.downloads:
        return []
    # what is found below a folder is part of that folder's content
    tops = {Path(found).parts[0] if name == "tiny-imagenet" else found for found in source.found}
    return [place / top for top in sorted(tops)]
