"""Digests the source of a class that is given as an object: by a script or a notebook.

Part of it are the class, its bases, and what their methods use of their module: functions, classes
and values. What the standard library and installed distributions bring is left out.
"""

import __future__

import ast
import dis
import hashlib
import inspect
import io
import linecache
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, reduce
from logging import Logger
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

_OURS = ("arena", "agents", "envs")
_INSTALLED = tuple(Path(sysconfig.get_path(key)) for key in ("stdlib", "purelib", "platlib"))
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_MADE = ("_abc_impl",)
_DEEPEST = 50  # wrappers round a function; what claims to have more wraps itself
_FUTURE = reduce(
    lambda flags, name: flags | getattr(__future__, name).compiler_flag,
    __future__.all_feature_names,
    0,
)


class SourceUnknown(Exception):  # noqa: N818 - an answer, not a fault
    """No source tells what a class does; the message is the reason."""


def source_digest(player: type) -> str:
    """Digest what identifies a class, in 16 hexadecimal digits.

    Raises:
        SourceUnknown: a part of it has no source, or another one than when it was loaded.
    """
    parts = _Parts()
    try:
        parts.add_class(player)
    except RecursionError as error:
        raise SourceUnknown("it uses a value that holds itself") from error
    digest = hashlib.sha256()
    for text in sorted(parts.texts):
        digest.update(len(text.encode()).to_bytes(8, "big") + text.encode())
    return digest.hexdigest()[:16]


def is_installed(thing: type | FunctionType) -> bool:
    """Tell whether a class or function is of the standard library or an installed distribution."""
    module = thing.__module__
    if module == "builtins":  # what `exec` makes may claim it too, but is allocated on the heap
        return isinstance(thing, type) and not thing.__flags__ & _HEAP_TYPE
    return _is_installed_module(module)


def _is_installed_module(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    return name.partition(".")[0] in sys.stdlib_module_names or (
        file is not None and any(Path(file).is_relative_to(root) for root in _INSTALLED)
    )


class _Parts:
    """Collects texts of source and values; each thing once."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self._seen: dict[int, object] = {}  # the objects too, as an address may be used again

    def _first(self, thing: object) -> bool:
        new = id(thing) not in self._seen
        self._seen[id(thing)] = thing
        return new

    def add_class(self, player: type) -> None:
        """Add a class: its text, its bases, its attributes, and what its methods use."""
        if not self._first(player):
            return
        methods = list(_methods(player))
        own = [one for one in methods if one.__module__ == player.__module__]
        self.texts.add(_class_text(player, own))
        for method in own:
            self.texts.add(_source_of(method.__code__))  # one given to the class lies elsewhere
            self._add_used(method)
        parts: list[type | FunctionType] = [*player.__bases__, *methods]
        parts += [wrapper for _, *wrappers in _chains(player) for wrapper in wrappers]
        for part in parts:
            if part not in own:
                self._add(part.__name__, part)
        for name, value in vars(player).items():
            if name not in _MADE and not name.startswith("__") and not hasattr(value, "__get__"):
                self._add(name, value)

    def _add_used(self, function: FunctionType) -> None:
        """Add what a function uses of its module and of the function around it."""
        code = function.__code__
        _require_unchanged(code)
        used = set(_global_names(code)) & function.__globals__.keys()
        values: dict[str, object] = {name: function.__globals__[name] for name in used}
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # an empty one
                values[name] = cell.cell_contents
        values["defaults"] = (function.__defaults__, function.__kwdefaults__)
        for name, value in values.items():
            self._add(name, value)

    def _add(self, name: str, value: object) -> None:
        if isinstance(value, Logger):
            return
        if isinstance(value, ModuleType):
            self._add_module(value)
        elif isinstance(value, type | FunctionType):
            if is_installed(value) or _is_ours(value.__module__):
                self.texts.add(f"{name} is {value.__module__}.{value.__qualname__}")
            elif isinstance(value, type):
                self.add_class(value)
            else:
                self._add_function(name, value)
        elif isinstance(
            inner := inspect.getattr_static(value, "__wrapped__", None), FunctionType
        ):  # of `lru_cache`
            self._add(name, inner)
        elif isinstance(value, Mapping):
            self._add(name, list(value.items()))
        elif isinstance(value, set | frozenset):  # in an order that is the same in each process
            self._add(name, sorted(value, key=lambda one: getattr(one, "__qualname__", repr(one))))
        elif isinstance(value, list | tuple):
            self.texts.add(f"{name} has {len(value)}")
            for number, item in enumerate(value):
                self._add(f"{name}.{number}", item)
        elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
            self.texts.add(f"{name} = {value!r}")
        else:
            self._add(f"type of {name}", type(value))
            self.texts.add(f"{name} = {self._pickled(name, value)}")

    def _add_function(self, name: str, function: FunctionType) -> None:
        """Add a function and what it wraps; of a wrapper that a library made, only that."""
        if not self._first(function):
            return
        module = str(function.__globals__.get("__name__"))  # a wrapper bears that of what it wraps
        if not (_is_installed_module(module) or _is_ours(module)):
            self.texts.add(_source_of(function.__code__))
            self._add_used(function)
        if hasattr(function, "__wrapped__"):
            self._add(name, function.__wrapped__)

    def _pickled(self, name: str, value: object) -> str:
        """Digest a value; functions and classes that it holds are added by their source."""
        file = io.BytesIO()
        try:
            _Pickler(file, self._add).dump(value)
        except SourceUnknown:
            raise
        except Exception as error:  # whatever an object's own code raises
            raise SourceUnknown(f"it uses '{name}', whose value no source shows") from error
        return hashlib.sha256(file.getvalue()).hexdigest()

    def _add_module(self, module: ModuleType) -> None:
        """Add the text of a module of the user's own, and what its functions and classes are."""
        name = module.__name__
        if _is_installed_module(name) or _is_ours(name) or not self._first(module):
            return
        self.texts.add(_text(getattr(module, "__file__", None) or ""))
        for part in list(vars(module).values()):
            if isinstance(part, type | FunctionType):
                self._add(name, part)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in _OURS


class _Pickler(pickle.Pickler):
    """Writes the names of functions and classes, and gives each to who adds its source."""

    def __init__(self, file: io.BytesIO, add: Callable[[str, object], None]) -> None:
        super().__init__(file)
        self._add_part = add

    def persistent_id(self, part: object) -> str | None:
        """Name a function or class; anything else is written as it is."""
        if not isinstance(part, type | FunctionType):
            return None
        name = f"{part.__module__}.{part.__qualname__}"
        self._add_part(name, part)
        return name


def _methods(player: type) -> Iterator[FunctionType]:
    """List the functions among a class's attributes, without those that `dataclass` makes."""
    return (method for method, *_ in _chains(player))


def _chains(player: type) -> Iterator[list[FunctionType]]:
    """List each of these functions, and after it those that wrap it."""
    made = "__dataclass_fields__" in vars(player)
    for value in vars(player).values():
        inner = [getattr(value, name, None) for name in ("fget", "fset", "fdel", "func")]
        for part in (value, *inner):
            chain: list[FunctionType] = []
            one = getattr(part, "__func__", part)
            for _ in range(_DEEPEST):
                if isinstance(one, FunctionType):
                    chain.insert(0, one)
                one = getattr(one, "__wrapped__", None)
            if chain and not (
                made and chain[0].__code__.co_filename == "<string>"
                and chain[0].__name__[:2] == "__"
            ):  # fmt: skip
                yield chain


def _class_text(player: type, methods: list[FunctionType]) -> str:
    """Find the text of a class by its name and the line of one of its methods."""
    lines = {method.__code__.co_firstlineno for method in methods}
    file = next((method.__code__.co_filename for method in methods), _file_of(player))
    text = _text(file)
    found = [
        (min([node.lineno, *(one.lineno for one in node.decorator_list)]), node.end_lineno or 0)
        for name, node in _classes(ast.parse(text), "")
        if name == player.__qualname__
    ]
    around = [span for span in found if any(span[0] <= line <= span[1] for line in lines)]
    spans = around or found
    if len(spans) != 1:
        raise SourceUnknown(f"the source of {player.__qualname__} cannot be read")
    first, last = spans[0]
    return "\n".join(text.splitlines()[first - 1 : last])


def _classes(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name, child
            inner = f"{prefix}{child.name}."
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{prefix}{child.name}.<locals>."
        yield from _classes(child, inner)


def _file_of(player: type) -> str:
    return getattr(sys.modules.get(player.__module__), "__file__", None) or ""


def _text(file: str) -> str:
    linecache.checkcache(file)
    return "".join(linecache.getlines(file))


def _source_of(code: CodeType) -> str:
    try:
        return inspect.getsource(code)
    except (OSError, TypeError) as error:
        raise SourceUnknown(f"the source of {code.co_qualname} cannot be read") from error


def _require_unchanged(code: CodeType) -> None:
    """Check that the source, which may have been edited since, gives the code that is loaded."""
    text = _text(code.co_filename)
    if not text:
        raise SourceUnknown(f"the source of {code.co_qualname} cannot be read")
    flags = code.co_flags & _FUTURE | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as a notebook's cells may
    if code not in _codes(text, code.co_filename, flags):
        raise SourceUnknown(f"{code.co_filename} was edited after {code.co_qualname} was loaded")


@cache
def _codes(text: str, file: str, flags: int) -> frozenset[CodeType]:
    try:
        return frozenset(_inner(compile(text, file, "exec", flags, dont_inherit=True)))
    except SyntaxError:
        return frozenset()


def _inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inner(constant)


def _global_names(code: CodeType) -> Iterator[str]:
    for one in _inner(code):
        for step in dis.get_instructions(one):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                yield str(step.argval)
