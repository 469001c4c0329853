"""Tells under which versions, code and device something was played."""

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("fortress-arena", "torch", "torchvision", "numpy", "gymnasium", "scikit-learn")


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout this package runs from and whether it was changed since.

    (None, None) where the package was installed as a wheel or git is not there; None for what git
    does not tell in time.
    """
    folder = Path(__file__).resolve().parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None or _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    changes = _git(folder.parent, "status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def device_name(device: object) -> str:
    """Name a device as a log wants it: "cpu", "cuda:0 NVIDIA H200"."""
    import torch

    place = torch.device(str(device))
    if place.type == "cuda":
        return f"{place} {torch.cuda.get_device_name(place)}"
    return str(place)


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
