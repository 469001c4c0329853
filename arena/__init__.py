"""Plays games of model extraction: scenarios, episodes, the referee, the log, analysis.

    import arena

    frame = arena.run("quickstart", seeds=range(3), overrides={"threat.budget": 3000})
    log = arena.open_log("arena.db")

Importing this loads neither torch nor pandas; the first call does.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arena.api import OpenLog, open_log, run

__all__ = ["OpenLog", "open_log", "run"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'arena' has no attribute '{name}'")
    from arena.system.shadowing import require_own_packages

    require_own_packages()
    import arena.api

    return getattr(arena.api, name)
