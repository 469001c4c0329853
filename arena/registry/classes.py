"""Players given as classes: the names they have in a plan, and how they are found again."""

import importlib
import secrets

from arena.registry.source import SourceUnknown, is_installed, source_digest
from envs.errors import ScenarioError
from envs.loading.imports import CLASS_USE, class_place, package_digest

_given: dict[str, type] = {}


def class_digest(use: str) -> str:
    """Return the digest of a class's source, out of its `use`."""
    return use.rpartition("#")[2]


def register(player: type) -> tuple[str, str]:
    """Remember a class under the `use` of its module, name and source.

    Returns:
        the `use`, and the reason why no source identifies the class: "" where one does. Where none
        does, the `use` is another one each time, because the class may be another one too.
    """
    reason = ""
    try:
        installed = is_installed(player)
        digest = package_digest(player.__module__) if installed else source_digest(player)
    except SourceUnknown as error:
        digest, reason = secrets.token_hex(8), str(error)
    use = f"{CLASS_USE}{player.__module__}:{player.__qualname__}#{digest}"
    _given[use] = player
    return use, reason


def find_class(use: str) -> type:
    """Return the class behind a `use`: one that was registered, or else one of its module.

    Raises:
        ScenarioError: there is none, or its source is another one.
    """
    if use not in _given:
        module, name = class_place(use)
        found = _imported(module, name)
        if not isinstance(found, type) or register(found)[0] != use:
            raise ScenarioError(
                f"{name} of {module} was given as a class, and this process has none of this "
                f"source; give it to arena.run, or name it by its file"
            )
    return _given[use]


def is_given(use: str) -> bool:
    """Tell whether this process was given the class behind a `use`."""
    return use in _given


def is_importable(player: type) -> bool:
    """Tell whether another process finds a class by its name."""
    return _imported(player.__module__, player.__qualname__) is player


def _imported(module: str, name: str) -> object:
    if module == "__main__":  # another one in each process
        return None
    try:
        found: object = importlib.import_module(module)
    except ImportError:
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
