"""Data sets of others by name: a function of a file, or of an installed distribution.

What a `use` may be: `path/to/data.py:name`, or the name of an entry point of the group
`arena.datasets`. The function is called with the parameters that a scenario gives, and with `root`
where it takes that; what it may return says `envs.data.arrays.as_images`.
"""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from envs.data.arrays import Division, as_images, labelled
from envs.data.catalog import SOURCES, Form, Source
from envs.data.images import ImageSet, Splits
from envs.errors import ArenaError, ScenarioError, UnknownName
from envs.loading import imports

# `Any` in this file: parameters of other people's functions.

GROUP = "arena.datasets"
"""Entry points of installed distributions."""

_KEPT = 2  # data sets that are kept for who asks for their form, their digest and their images
_read: dict[str, Splits | ImageSet] = {}


def is_own(name: str) -> bool:
    """Tell whether a name is that of a data set of others; it need not exist."""
    return name not in SOURCES and (imports.is_file_use(name) or name in imports.offered(GROUP))


def offered() -> list[str]:
    """List the names that installed distributions offer."""
    return [name for name in imports.offered(GROUP) if name not in SOURCES]


def source_of(name: str) -> Source:
    """Find a source, ours or of others.

    Raises:
        UnknownName: there is none.
        ScenarioError: it cannot be imported, or is no function.
    """
    if is_own(name):
        return _own_source(name)
    if name not in SOURCES:
        raise UnknownName("data set", name, [*SOURCES, *offered()])
    return SOURCES[name]


def forget() -> None:
    """Let data sets of others be read anew: what their functions read may have changed."""
    _read.clear()


def _own_source(use: str) -> Source:
    if imports.is_file_use(use):
        found = imports.from_file(use)
    else:
        found = imports.from_target(imports.only_target(GROUP, "data set", use))
    if not callable(found) or isinstance(found, type):
        got = found.__name__ if isinstance(found, type) else type(found).__name__
        raise ScenarioError(f"{use}: expected a function that returns images, got {got}")
    read = _reader(use, found)
    _imitate(read, found)

    def form(root: Path, **options: Any) -> Form | None:
        taken = {"root": root} if "root" in inspect.signature(found).parameters else {}
        images = read(**taken, **options)
        return None if isinstance(images, ImageSet) else (images.image_shape, images.num_classes)

    summary = (inspect.getdoc(found) or "").partition("\n")[0]
    return Source(summary, labelled(read, use), pool=read, form=form)


def _reader(use: str, found: Callable[..., object]) -> Callable[..., Splits | ImageSet]:
    """Return a function that calls another once for each set of parameters."""
    code = imports.file_digest(use) if imports.is_file_use(use) else ""
    taken = inspect.signature(found).parameters.values()
    defaults = {one.name: one.default for one in taken if one.default is not one.empty}

    def read(**params: Any) -> Splits | ImageSet:
        key = json.dumps([use, code, defaults | params], sort_keys=True, default=str)
        if key not in _read:
            images = _called(use, found, params)
            while len(_read) >= _KEPT:
                _read.pop(next(iter(_read)))
            _read[key] = images
        return _read[key]

    return read


def _called(use: str, found: Callable[..., object], params: dict[str, Any]) -> Splits | ImageSet:
    try:
        return as_images(found(**params), imports.short_name(use), Division())
    except ArenaError:
        raise
    except Exception as error:  # of the author's code
        raise ScenarioError(f"{use}: {imports.import_fault(error, use)}") from error


def _imitate(reader: Any, found: Callable[..., object]) -> None:
    """Give a reader the parameters of another function, by keyword alone."""
    try:
        hints = get_type_hints(found, include_extras=True)
    except (NameError, TypeError, AttributeError):  # names imported for type checkers only
        hints = {}
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints.get(one.name, Any))
        for one in inspect.signature(found).parameters.values()
        if one.kind in named
    ]
    reader.__signature__ = inspect.Signature(taken)
    reader.__annotations__ = {one.name: one.annotation for one in taken}
