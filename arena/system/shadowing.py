"""Finds packages of other people that take the names of ours: `agents` and `envs`.

Imports nothing of ours, because ours cannot be imported where this module has to answer.
"""

import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path

DISTRIBUTION = "fortress-arena"
NAMES = ("agents", "envs")
ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds our packages, in a checkout and in site-packages."""


class ShadowedPackage(ImportError):  # noqa: N818 - named after what was found
    """Another package has the name of one of ours, and comes first on the path."""


def require_own_packages(*, new_process: bool = False) -> None:
    """Check that `agents` and `envs` are ours.

    Args:
        new_process: check what a process begun now would import, whatever this one has imported.

    Raises:
        ShadowedPackage: one of them is not ours; the message is one line with the way out.
    """
    for name in NAMES:
        place = place_of(name, new_process=new_process)
        if not is_ours(name, place):
            raise ShadowedPackage(_line(name, place))


def place_of(name: str, *, new_process: bool = False) -> Path | None:
    """Return the folder or file that `import name` leads to; None where it leads nowhere."""
    module = None if new_process else sys.modules.get(name)
    spec = _search(name) if module is None else module.__spec__
    folders = getattr(module, "__path__", None) or (spec and spec.submodule_search_locations)
    if folders:
        return Path(next(iter(folders)))
    file = getattr(module, "__file__", None) or (spec and spec.origin)
    return Path(file) if file else None


def _search(name: str) -> ModuleSpec | None:
    """Find a top-level module as a new process would; `find_spec` prefers what is loaded."""
    for finder in sys.meta_path:
        if (spec := finder.find_spec(name, None)) is not None:
            return spec
    return None


def is_ours(name: str, place: Path | None) -> bool:
    """Tell whether a place is that of our own package."""
    return place is not None and place.resolve() == ROOT / name


def _line(name: str, place: Path | None) -> str:
    need = f"Fortress Arena needs its own package '{name}' ({ROOT / name})"
    if place is None:
        return f"{need}, which is not on the path; install fortress-arena again"
    start = place / "__init__.py"
    found = start if start.is_file() else place
    if owner := owner_of(name, place):
        return (
            f"{need}, but {found} of the distribution {owner} shadows it; "
            f"install Fortress Arena into an environment of its own"
        )
    return f"{need}, but {found} shadows it; rename that one, or work in another folder"


def owner_of(name: str, place: Path) -> str:
    """Name the installed distribution that a package belongs to; "" where there is none."""
    from importlib import metadata  # a tenth of a second, which `arena --help` does without

    for owner in metadata.packages_distributions().get(name, []):
        with suppress(metadata.PackageNotFoundError):
            installed = Path(str(metadata.distribution(owner).locate_file(name))).resolve()
            if owner != DISTRIBUTION and place.resolve() in (
                installed,
                installed.with_suffix(".py"),
            ):
                return owner
    return ""
