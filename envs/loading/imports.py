"""Loads players, networks and data sets from where they live: modules, files, distributions."""

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from envs.errors import ScenarioError, one_line
from envs.loading import siblings

CLASS_USE = "class:"


def is_file_use(use: str) -> bool:
    """Tell whether a `use` names a class in a file: path/to/file.py:Class."""
    return ".py:" in use


def is_model_file(use: str) -> bool:
    """Tell whether a `use` is the path of a network that was written with its weights."""
    return use.endswith((".pt2", ".onnx"))


def split_file_use(use: str) -> tuple[Path, str]:
    """Split path/to/file.py:Class into the file and the class."""
    file, _, name = use.rpartition(":")
    return Path(os.path.expanduser(file)), name  # Path's own raises for an unknown ~user


def is_class_use(use: str) -> bool:
    """Tell whether a `use` stands for a class given to `arena.run`: class:MODULE:CLASS#DIGEST."""
    return use.startswith(CLASS_USE)


def class_place(use: str) -> tuple[str, str]:
    """Return module and qualified name of a class, from its `use`."""
    module, _, name = use.removeprefix(CLASS_USE).rpartition("#")[0].partition(":")
    return module, name


def short_name(use: str) -> str:
    """Name a player after its `use`: the class where that holds one, else the name itself."""
    if is_class_use(use):
        return class_place(use)[1].rpartition(".")[2]
    return split_file_use(use)[1] if is_file_use(use) else use


def from_file(use: str) -> object:
    """Import path/to/file.py:Class, relative to the working directory.

    It may import modules beside it, by relative imports and by their names.

    Raises:
        ScenarioError: no such file, no such name in it, or its import fails.
    """
    try:
        path, name = split_file_use(use)
        is_there = path.is_file()
    except (OSError, ValueError) as error:  # too long, or with a NUL
        raise ScenarioError(f"{use[:60]}: no path of a file: {one_line(error)}") from error
    if not is_there:
        raise ScenarioError(f"{use}: no file {path}; it is looked for beside the scenario, then in "
                            f"{Path.cwd()}")  # fmt: skip
    try:
        module = siblings.load(path, _hash(str(path.resolve()).encode(), file_digest(use).encode()))
    except (Exception, SystemExit) as error:
        raise ScenarioError(import_fault(error, str(path))) from error
    return _attribute(module, name, where=str(path))


def from_target(target: str) -> object:
    """Import "module:Name".

    Raises:
        ScenarioError: its import fails, or the name is not there.
    """
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ScenarioError(import_fault(error, module_name)) from error
    return _attribute(module, name, where=module_name)


def _attribute(module: ModuleType, name: str, *, where: str) -> object:
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ScenarioError(f"{where}: defines no '{name}'")
        found = getattr(found, part)
    return found


def import_fault(error: BaseException, where: str) -> str:
    """Word a failed import in one line that names the file and the line at fault."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or where}:{error.lineno}: {type(error).__name__}: {error.msg}"
    # the innermost frame outside the import machinery is where the author has to look
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename not in (__file__, siblings.__file__)
    ]
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else where
    return f"{place}: {one_line(error)}"


def offered(group: str) -> dict[str, list[EntryPoint]]:
    """Find what installed distributions offer in an entry-point group, by name."""
    return _offered(group, tuple((place, _changed(place)) for place in sys.path))


@lru_cache(maxsize=64)  # looking through all distributions takes tens of milliseconds
def _offered(group: str, places: tuple[tuple[str, int], ...]) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        same = found.setdefault(point.name, [])
        if all(point.value != other.value for other in same):  # an editable install shows twice
            same.append(point)
    return dict(sorted(found.items()))


def _changed(place: str) -> int:
    """Tell when something was last installed into a folder or removed from it; 0 for no folder."""
    try:
        return os.stat(place or ".").st_mtime_ns
    except OSError:
        return 0


def only_target(group: str, kind: str, name: str) -> str:
    """Return the "module:Name" that one distribution offers under a name.

    Raises:
        ScenarioError: several distributions offer it.
    """
    points = offered(group)[name]
    if len(points) > 1:
        owners = ", ".join(distribution_of(point) for point in points)
        raise ScenarioError(
            f"{len(points)} distributions offer {kind} '{name}': {owners}; uninstall all but one"
        )
    return str(points[0].value)


def distribution_of(point: EntryPoint) -> str:
    """Name the distribution an entry point belongs to."""
    return point.dist.name if point.dist is not None else point.module


def file_digest(use: str) -> str:
    """Digest the file of path/to/file.py:Class, and the modules beside it that it imports."""
    path = split_file_use(use)[0]
    own = path.resolve()
    others = {name: file for name, file in siblings.used_files(path).items() if file != own}
    parts = [part for name, file in others.items() for part in (name.encode(), file.read_bytes())]
    return _hash(own.read_bytes(), *parts)


def package_digest(target: str) -> str:
    """Digest all Python files of the top-level package of "module:Name", once it is imported.

    It stands for code that no version number of ours covers.
    """
    module = sys.modules[target.partition(":")[0].partition(".")[0]]
    folders = [Path(folder) for folder in getattr(module, "__path__", [])]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    if not files and module.__file__:
        files = [Path(module.__file__)]
    return _hash(*(file.read_bytes() for file in files))


def _hash(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:16]
