"""Lets a player's file import the modules beside it, and tells which of them it uses.

A file is loaded into a package of its own, whose name depends on its place and on the content of
every module beside it that it imports. Two files with helpers of one name do not meet, and an
edited helper is read again.
"""

import ast
import builtins
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

# `Any` in this file: names and values of modules.

PREFIX = "arena_file_"
_NOT_SHADOWED = {"arena", "agents", "envs", *sys.stdlib_module_names}


class Place(NamedTuple):
    """Where a file stands among packages.

    Attributes:
        base: folder that holds the file's topmost package, or else the file.
        packages: names of the packages around the file, from the base on.
        file: the file itself.
    """

    base: Path
    packages: tuple[str, ...]
    file: Path

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the packages and of the module."""
        stem = self.file.stem.replace(".", "_")
        return self.packages if stem == "__init__" else (*self.packages, stem)


def place_of(path: Path) -> Place:
    """Find the packages that a file belongs to: folders with an `__init__.py`."""
    file = path.resolve()
    base = file.parent
    packages: tuple[str, ...] = ()
    while (base / "__init__.py").is_file() and base.parent != base:
        base, packages = base.parent, (base.name, *packages)
    return Place(base, packages, file)


def used_files(path: Path) -> dict[str, Path]:
    """Find the modules beside a file that it imports, and those that they import.

    Returns:
        by their names below the base: the file itself and its packages too.
    """
    place = place_of(path)
    found: dict[str, Path] = {}
    waiting = [*_modules(place.base, place.packages), place.file]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(place.base).as_posix()
        if name not in found:
            found[name] = file
            waiting += _imported(place._replace(file=file, packages=_packages(place.base, file)))
    return dict(sorted(found.items()))


def _packages(base: Path, file: Path) -> tuple[str, ...]:
    return file.relative_to(base).parts[:-1]


def _imported(place: Place) -> Iterator[Path]:
    """List the files beside a module that its import statements name."""
    try:
        tree = ast.parse(place.file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):  # its import tells
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _absolute(place, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            for names in (module, *([*module, alias.name] for alias in node.names)):
                if node.level == 0:
                    yield from _absolute(place, names)
                elif (above := len(place.packages) - node.level + 1) >= 0:
                    yield from _modules(place.base, (*place.packages[:above], *names))


def _absolute(place: Place, names: Sequence[str]) -> Iterator[Path]:
    for folder in _folders(place):
        if _is_beside(place.base.joinpath(*folder), names[0]):
            yield from _modules(place.base, (*folder, *names))
            return


def _folders(place: Place) -> tuple[tuple[str, ...], ...]:
    """Return where absolute imports look: beside the file, then beside its topmost package."""
    return (place.packages, ()) if place.packages else ((),)


def _is_beside(folder: Path, name: str) -> bool:
    if name in _NOT_SHADOWED:
        return False
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def _modules(base: Path, names: Sequence[str]) -> Iterator[Path]:
    """List the files that an import of a dotted name runs, as far as it leads through files."""
    for count in range(1, len(names) + 1):
        stem = base.joinpath(*names[:count])
        for file in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
            if file.is_file():
                yield file
                break


def load(path: Path, digest: str) -> ModuleType:
    """Import a file with what is beside it, once for each digest.

    Raises:
        BaseException: what its code raises; nothing of it stays imported.
    """
    place = place_of(path)
    stem = re.sub(r"\W", "_", path.stem)
    root = f"{PREFIX}{stem}_{digest}"
    name = ".".join((root, *place.parts)) if place.parts else root
    if name in sys.modules:
        return sys.modules[name]
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    package = ModuleType(root)
    package.__path__ = [str(place.base)]
    sys.modules[root] = package
    try:
        if place.packages:
            importlib.import_module(".".join((root, *place.packages)))
        return sys.modules.get(name) or _executed(name, place.file)
    except BaseException:
        for loaded in [one for one in sys.modules if one == root or one.startswith(f"{root}.")]:
            del sys.modules[loaded]
        raise


def _executed(name: str, file: Path) -> ModuleType:
    """Run a file as a module, whatever characters its name has."""
    spec = importlib.util.spec_from_file_location(name, file, loader=_Loader(name, str(file)))
    if spec is None or spec.loader is None:
        raise ImportError(f"{file}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    # dataclasses and pickles look their module up by name while it runs
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class _Finder(MetaPathFinder):
    """Finds the modules beside a player's file, below its package."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(PREFIX):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


_FINDER = _Finder()


class _Loader(SourceFileLoader):
    """Runs a module whose absolute imports look beside it first."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Allow no bytecode: it is matched by whole seconds, and an edit may be quicker."""
        raise OSError("compiled from its source each time")

    def exec_module(self, module: ModuleType) -> None:
        place = place_of(Path(self.path))
        root = module.__name__.partition(".")[0]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importer(root, place)}
        super().exec_module(module)


def _importer(root: str, place: Place) -> Any:
    """Make the `__import__` of a module; the signature is Python's own."""

    def importer(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        for folder in _folders(place) if level == 0 else ():
            if _is_beside(place.base.joinpath(*folder), top):
                package = ".".join((root, *folder))
                module = builtins.__import__(
                    f"{package}.{name}", globals, locals, tuple(fromlist or ("__name__",)), 0
                )
                return module if fromlist else sys.modules[f"{package}.{top}"]
        return builtins.__import__(name, globals, locals, fromlist or (), level)

    return importer
