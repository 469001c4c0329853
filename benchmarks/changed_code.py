"""Puts a changed text of a module in place of the one that is on disk, in this process alone."""

import gc
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType

_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


def change_on_import(path: Path, text: bytes) -> None:
    """Let this process import a file as if it held another text."""
    original = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, fullname: str) -> CodeType | None:
        if Path(loader.path) == path:
            return loader.source_to_code(text, loader.path)
        return original(loader, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def lies_in_functions(path: Path, text: bytes) -> bool:
    """Tell whether a text differs from the file's in the bodies of functions alone."""
    old, new = (compile(each, str(path), "exec") for each in (path.read_bytes(), text))
    return _shell(old) == _shell(new)


def change_functions(path: Path, text: bytes) -> None:
    """Give the functions that were imported from a file the code that they have in another text.

    Both texts have the same functions, in the same order.
    """
    old, new = (compile(each, str(path), "exec") for each in (path.read_bytes(), text))
    changed = dict(zip(_codes(old), _codes(new), strict=True))
    gc.unfreeze()  # what is frozen is not among the objects
    for each in gc.get_objects():
        # by its type alone: asking for the class of some objects runs code of theirs
        if type(each) is FunctionType and each.__code__.co_filename == str(path):
            each.__code__ = changed[each.__code__]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _shell(code: CodeType) -> tuple[object, ...]:
    """Return what runs at import: the code of the module and of classes, without functions."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    bodies = [each for each in inner if each.co_name in _COMPREHENSIONS or not each.co_flags & 2]
    constants = [repr(each) for each in code.co_consts if not isinstance(each, CodeType)]
    return code.co_code, constants, code.co_names, *map(_shell, bodies)
