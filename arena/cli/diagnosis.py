"""Examines an installation: versions, devices, folders, the log, and names that are taken."""

import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from arena.report.formatting import size_text
from arena.system.shadowing import DISTRIBUTION, ROOT, is_ours, place_of
from envs.errors import ArenaError

PACKAGES = ("torch", "torchvision", "numpy", "gymnasium", "scikit-learn", "sqlalchemy", "pydantic")
OPTIONAL = ("pettingzoo", "pandas", "pyarrow", "fastapi", "timm", "ray", "psycopg")
NAMES = ("arena", "agents", "envs", "scenarios")


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the examination.

    Attributes:
        topic: what it is about.
        text: what was found.
        fine: False where somebody has to act.
    """

    topic: str
    text: str
    fine: bool = True


def examine(log: str | None = None) -> list[Fact]:
    """Look at everything; nothing is changed, and no part that fails hides another."""
    return [
        Fact("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *(_version(name) for name in (DISTRIBUTION, *PACKAGES)),
        _extras(),
        *_devices(),
        *_folders(),
        _log(log),
        *(_origin(name) for name in NAMES),
    ]


def _version(name: str) -> Fact:
    try:
        return Fact(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Fact(name, f"not installed; run: pip install {name}", fine=False)


def _extras() -> Fact:
    there = [name for name in OPTIONAL if importlib.util.find_spec(name)]
    missing = [name for name in OPTIONAL if name not in there]
    return Fact(
        "extras", f"{', '.join(there) or 'none'} (not there: {', '.join(missing) or 'none'})"
    )


def _devices() -> Iterator[Fact]:
    try:
        import torch
    except Exception as error:  # a broken build fails in many ways, and is what we look for
        yield Fact("devices", f"torch does not import: {error}", fine=False)
        return
    yield Fact("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads for torch")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        yield Fact(f"cuda:{index}", f"{properties.name}, {memory:.0f} GiB")
    try:
        import torchvision  # noqa: F401
    except Exception as error:
        text = f"does not import: {error}; install torch and torchvision together"
        yield Fact("torchvision import", text, fine=False)


def _folders() -> Iterator[Fact]:
    try:
        from envs.data.places import data_root
        from envs.training.checkpoints import cache_root
    except Exception as error:
        yield Fact("folders", f"cannot be found: {error}", fine=False)
        return
    cache, data = cache_root(), data_root().resolve()
    yield Fact("cache", f"{cache} ({size_text(folder_size(cache))})")
    there = "" if data.is_dir() else " (not there; needed by data sets of files only)"
    yield Fact("data", f"{data}{there}")


def folder_size(folder: Path) -> int:
    """Add up the bytes of all files below a folder; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _log(log: str | None) -> Fact:
    try:
        from arena.log.engine import named
        from arena.log.schema_version import HEAD
        from arena.log.store import Log
    except Exception as error:
        return Fact("log", f"cannot be examined: {error}", fine=False)
    where = str(named(log))
    if where and "://" not in where and not Path(where).exists():
        return Fact("log", f"{where} (not there yet; it will have schema {HEAD})")
    try:
        with Log.open(where, create=False, read_only=True) as store:
            return Fact("log", f"{store.where}, schema {HEAD}, {_count(store)} episodes")
    except ArenaError as error:
        return Fact("log", str(error), fine=False)


def _count(store: object) -> int:
    from sqlalchemy import func, select

    from arena.log.store import Log
    from arena.log.tables import EPISODE

    assert isinstance(store, Log)
    with store.engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(EPISODE)).scalar_one())


def _origin(name: str) -> Fact:
    """Say where `import name` leads, and which other distribution has a package of that name."""
    owners = sorted(set(metadata.packages_distributions().get(name, [])) - {DISTRIBUTION})
    place = place_of(name)
    topic = f"import {name}"
    if is_ours(name, place):
        also = f" (beside {', '.join(owners)}, which has a package of that name)" if owners else ""
        return Fact(topic, f"{DISTRIBUTION}, {place}{also}", fine=not owners)
    whose = f" of {', '.join(owners)}" if owners else ""
    return Fact(
        topic,
        f"found {place or 'nowhere'}{whose}, not ours in {ROOT}; use an environment of its own",
        fine=False,
    )
