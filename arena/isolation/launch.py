"""Starts the process of an attacker with nothing of ours but a line, a shared file and a pool."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from arena.isolation.printed import Printed
from arena.registry import players
from arena.registry.catalog import Named
from arena.system.shadowing import ROOT
from envs.errors import ScenarioError
from envs.loading import imports, siblings
from envs.nets import registry, user_networks

if TYPE_CHECKING:  # it loads torch, which reading a scenario does not
    from arena.isolation.channel import Channel

PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONHASHSEED",
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE",
    "ATEN_CPU_CAPABILITY", "MKL_CBWR",
)  # fmt: skip
"""Variables of the environment on which computing depends; no other is passed on."""

_MOST_FILES = 2000
_PACKAGES = ("arena", "agents", "envs", "scenarios")


class Started(NamedTuple):
    """A process, our end of the line to it, its folder, and what shows its output."""

    process: "subprocess.Popen[bytes]"
    channel: "Channel"
    folder: Path
    printed: Printed


def require_linux() -> None:
    """Check that processes can be isolated here.

    Raises:
        ScenarioError: they cannot.
    """
    if not sys.platform.startswith("linux"):
        raise ScenarioError(
            f'isolation = "process" needs Linux, and this is {sys.platform}; '
            f'play trusted (isolation = "none")'
        )


def start(task: str, uses: Iterable[str], *, files: Sequence[Path] = (), pool: int = -1) -> Started:
    """Start a process that does one task of `arena.isolation.child`.

    Args:
        task: "attack" or "describe".
        uses: names or files of the players it imports.
        files: more that it reads.
        pool: descriptor of the pool's file; -1 without one.
    """
    from arena.isolation.channel import Channel

    require_linux()
    folder = Path(tempfile.mkdtemp(prefix="arena-isolated-"))
    ours, theirs = socket.socketpair()
    shared = os.memfd_create("arena-shared")
    player_files, player_folders, paths = _places(uses)
    told = {
        "task": task,
        "line": theirs.fileno(),
        "shared": shared,
        "pool": pool,
        "readable": [str(one) for one in (*_libraries(), *player_files, *files)],
        "listed": [str(one) for one in (ROOT, *player_folders)],
        "writable": [str(folder)],
    }
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "arena.isolation.child", json.dumps(told)],
            cwd=folder,
            env=_environment(folder, paths),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # not our own: a terminal that is written to can be read
            stderr=subprocess.STDOUT,  # and a print must not get between lines of JSON
            pass_fds=[theirs.fileno(), shared, *([pool] if pool >= 0 else [])],
            start_new_session=True,  # Ctrl-C is the referee's, and so is the terminal
        )
    assert process.stdout is not None
    return Started(process, Channel(ours, shared), folder, Printed(process.stdout))


def end(started: Started) -> None:
    """End a process and those it started, and remove what it left."""
    process = started.process
    for number in [*_descendants(process.pid), process.pid]:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(number, signal.SIGKILL)
    process.wait()
    started.channel.close()
    started.printed.end()
    shutil.rmtree(started.folder, ignore_errors=True)


def _descendants(number: int) -> list[int]:
    """List processes below one; none where it is gone."""
    try:
        return [one.pid for one in psutil.Process(number).children(recursive=True)]
    except psutil.Error:
        return []


def _environment(folder: Path, paths: Iterable[str]) -> dict[str, str]:
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return passed | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *paths]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "CUDA_CACHE_PATH": str(folder),
    }


def _libraries() -> Iterator[Path]:
    """Folders of Python, of installed packages and of our own."""
    for place in {sys.prefix, sys.base_prefix, sys.exec_prefix}:
        yield Path(place)
    for name in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        if name:
            yield Path(name)
    for entry in sys.path:
        if Path(entry).name in ("site-packages", "dist-packages"):
            yield Path(entry)
    for name in _PACKAGES:
        yield ROOT / name


def _places(uses: Iterable[str]) -> tuple[list[Path], list[Path], list[str]]:
    """Return the Python files of players, the folders they lie in, and where modules are found."""
    files: list[Path] = []
    folders: list[Path] = []
    paths: list[str] = []
    for use in uses:
        if imports.is_file_use(use):
            place = siblings.place_of(imports.split_file_use(use)[0])
            # with the packages that it lies in, which are imported with it
            found = [place.base / "".join(place.packages[:1])]
            folders.append(place.base)
        else:
            module = _module_of(use)
            found, known_in = _places_of(module) if module else ([], [])
            paths += map(str, known_in)
        for folder in found:
            folders.append(folder)
            files += _python_files(folder)
    return files, folders, paths


def uses_in(value: object) -> list[str]:
    """Find the players of others that parameters name, at any depth."""
    if isinstance(value, str):
        return [value] if is_of_others(value) else []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [use for item in value for use in uses_in(item)]
    return []


def uses_of(named: Iterable[Named]) -> list[str]:
    """List what players are named by, and the players of others that their parameters name."""
    named = list(named)
    return [one.use for one in named] + uses_in([one.params for one in named])


def is_of_others(use: str) -> bool:
    """Tell whether a text names an attacker or a wrapper that is not one of ours."""
    if imports.is_file_use(use) or imports.is_class_use(use):
        return True
    names = (players.attackers, players.wrappers)
    return any(use not in one.builtin and use in imports.offered(one.group) for one in names)


def _module_of(use: str) -> str:
    """Return the top-level module behind a name of others; "" for ours."""
    if imports.is_class_use(use):
        target = imports.class_place(use)[0]
    else:
        kinds = [one for one in (players.attackers, players.wrappers) if use not in one.builtin]
        groups = [one.group for one in kinds] + [user_networks.GROUP] * registry.is_own(use)
        points = [point for group in groups for point in imports.offered(group).get(use, [])]
        target = points[0].value if points else ""
    name = target.partition(":")[0].partition(".")[0]
    return "" if name in _PACKAGES else name


def _places_of(module: str) -> tuple[list[Path], list[Path]]:
    """Return the folders in which a module's files lie, and those in which it is looked up."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return [], []
    if spec is not None and spec.submodule_search_locations:
        folders = [Path(one) for one in spec.submodule_search_locations]
        return folders, [one.parent for one in folders]
    if spec is None or not spec.origin:
        return [], []
    folder = Path(spec.origin).parent  # of a module of one file
    return [folder], [folder]


def _python_files(folder: Path) -> list[Path]:
    """List Python files of a folder and of packages in it, and no other file."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if (Path(place) / name / "__init__.py").is_file()]
        found += [Path(place) / name for name in names if name.endswith(".py")]
        if len(found) > _MOST_FILES:
            break
    return found[:_MOST_FILES]
