"""Asks before code is imported that a log or a scenario file names."""

from collections.abc import Iterator, Mapping

from arena.registry.classes import is_given
from envs.errors import ScenarioError
from envs.loading.imports import class_place, is_class_use, is_file_use, split_file_use


def require_trust(settings: object) -> None:
    """Refuse settings that name code of others.

    Players that an installed distribution offers are trusted, because the user installed it, and so
    are classes that this process was given.

    Args:
        settings: the plain tables of a plan, a scenario or a player.

    Raises:
        ScenarioError: one line that names the files and modules which would be imported.
    """
    named = sorted({_place(text) for text in _texts(settings) if _is_foreign(text)})
    if named:
        raise ScenarioError(
            f"this imports {', '.join(named)}, and an import runs what is written there; read it, "
            f"and then allow it by --trust-plugins (in Python trust_plugins=True)"
        )


def _is_foreign(text: str) -> bool:
    return is_file_use(text) or text.endswith(".pt2") or (is_class_use(text) and not is_given(text))


def _place(use: str) -> str:
    if use.endswith(".pt2"):  # reading an exported program looks names up and evaluates texts
        return use
    return str(split_file_use(use)[0]) if is_file_use(use) else f"module {class_place(use)[0]}"


def _texts(settings: object) -> Iterator[str]:
    """List all texts in tables, keys aside: any may become the name of a player."""
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, Mapping):
        for value in settings.values():
            yield from _texts(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _texts(value)
