"""Reads what a class can be told from its constructor, and checks what it is told."""

import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Union, Unpack, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticSerializationError, to_jsonable_python

from arena.registry.messages import Path, dotted, problems, value_text
from arena.registry.strict_types import exact
from envs.errors import ScenarioError

# `Any` in this file: annotations and defaults of other people's constructors.


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing a player, network or data set can be told.

    Attributes:
        name: as scenarios write it.
        type: its annotation, as text.
        default: as text; "" where it is required.
        meaning: from its docstring, in one line; "" where that does not say.
    """

    name: str
    type: str
    default: str
    meaning: str = ""


def parameters(target: Callable[..., object]) -> list[Parameter]:
    """List what a class or function can be told by name."""
    meanings = _meanings(target)
    return [
        Parameter(
            name,
            _type_text(one.hint),
            "" if one.default is _REQUIRED else _default_text(one.default),
            meanings.get(name, ""),
        )
        for name, one in _declared(target).items()
    ]


def validated(
    target: Callable[..., object], params: Mapping[str, object], *, prefix: Path = ()
) -> dict[str, Any]:
    """Check parameters against a constructor and convert them to what it declares.

    Args:
        target: the class or function they are for.
        params: as written in a file.
        prefix: path of the table in the file, for the message.

    Raises:
        ScenarioError: one line for each unknown name, wrong type or missing value.
    """
    given = _check(_model(target), params, prefix=prefix)
    extra = given.model_extra or {}
    return {key: extra[key] if key in extra else getattr(given, _field(key)) for key in params}


def validate_as(
    hints: Mapping[str, Any], params: Mapping[str, object], *, prefix: Path = ()
) -> None:
    """Check parameters, each of which may be left out, against annotations.

    Args:
        hints: by name.
        params: as written in a file.
        prefix: path of the table in the file, for the message.

    Raises:
        ScenarioError: one line for each unknown name or wrong value.
    """
    fields: dict[str, Any] = {
        _field(name): (exact(hint), Field(None, alias=name)) for name, hint in hints.items()
    }
    model = create_model("Parameters", __config__=_config(), **fields)
    read = _check(model, params, prefix=prefix)
    for name, value in params.items():
        if _rounded(value, getattr(read, _field(name))):  # what they are for reads them as written
            raise ScenarioError(
                f"{dotted([*prefix, name])}: expected whole numbers without a decimal point, got "
                f"{value_text(value)}"
            )


def _rounded(written: object, read: object) -> bool:
    """Tell whether a whole number was written with a decimal point, at any depth."""
    if isinstance(written, list) and isinstance(read, list | tuple):
        return any(map(_rounded, written, read))
    return isinstance(written, float) and isinstance(read, int)


def effective(target: Callable[..., object], params: Mapping[str, object]) -> dict[str, object]:
    """Return the parameters in plain values, defaults filled in, so that equal settings look equal.

    A default that has no plain form is left out: it is given by the code, not by the file.
    """
    model, given = _model(target), validated(target, params)
    plain: dict[str, object] = {name: to_jsonable_python(given[name]) for name in given}
    for name, one in _declared(target).items():
        if name in plain or one.default is _REQUIRED:
            continue
        try:
            dumped = to_jsonable_python(one.default)
            model.model_validate({**params, name: dumped})
        except (PydanticSerializationError, ValidationError):
            continue
        plain[name] = dumped
    return dict(sorted(plain.items()))


_REQUIRED = inspect.Parameter.empty


class _Declared(NamedTuple):
    """What a constructor says of one parameter."""

    hint: Any
    default: object


def _declared(target: Callable[..., object]) -> dict[str, _Declared]:
    """List the parameters that can be given by name, those of an unpacked TypedDict among them."""
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    hints = _hints(target)
    found: dict[str, _Declared] = {}
    for name, parameter in inspect.signature(target).parameters.items():
        hint = hints.get(name, Any)
        if parameter.kind in named:
            found[name] = _Declared(hint, parameter.default)
        elif get_origin(hint) is Unpack:
            found |= _unpacked(get_args(hint)[0])
    return found


def _unpacked(table: type) -> dict[str, _Declared]:
    """List the keys of a TypedDict: `Annotated[type, default]`, or None as the default."""
    fields = typing.get_type_hints(table, include_extras=True)
    return {
        name: _Declared(*get_args(hint)[:2]) if get_origin(hint) is Annotated
        else _Declared(hint, None)
        for name, hint in fields.items()
    }  # fmt: skip


def _meanings(target: Callable[..., object]) -> dict[str, str]:
    """Read what the docstrings of a class and its bases say of each parameter under "Args:"."""
    found: dict[str, tuple[Callable[..., object], list[str]]] = {}
    for holder in reversed(inspect.getmro(target) if isinstance(target, type) else (target,)):
        text = inspect.cleandoc(holder.__doc__ or "")
        # a dataclass tells its fields as attributes
        section = text.partition("Args:\n")[2] or text.partition("Attributes:\n")[2]
        said: list[str] = []
        for line in section.splitlines():
            if not line.startswith(" "):
                break
            if head := re.fullmatch(r"    ([*\w]+(?:, [*\w]+)*): (.*)", line):
                said = [head[2]]
                found |= dict.fromkeys(head[1].split(", "), (holder, said))
            else:
                said.append(line.strip())
    return {name: _followed(name, " ".join(said), holder) for name, (holder, said) in found.items()}


_SEE = re.compile(r"see `([\w.]+)`[.;]?\s*(.*)")
"""The meaning is told elsewhere; what follows is said of this class alone."""


def _followed(name: str, text: str, holder: Callable[..., object]) -> str:
    """Put the meaning itself in the place of "see `Class`", where that tells it."""
    if (see := _SEE.fullmatch(text)) is None or (told := _told_by(see[1], holder)) is None:
        return text
    meaning = _meanings(told).get(name, "")
    if not meaning:
        return text
    return f"{meaning.rstrip('.')}; {see[2]}" if see[2] else meaning


def _told_by(place: str, holder: Callable[..., object]) -> type | None:
    """Find a class of ours by its path, or any by its name in the module of another."""
    module, _, name = place.rpartition(".")
    if module.partition(".")[0] in ("agents", "arena", "envs"):
        found = getattr(importlib.import_module(module), name, None)
    else:
        found = getattr(sys.modules.get(holder.__module__), place, None)
    return found if isinstance(found, type) and found is not holder else None


def _hints(target: Callable[..., object]) -> dict[str, Any]:
    """Resolve annotations; none where they cannot be (names imported for type checkers only)."""
    holder = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        return typing.get_type_hints(holder, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _field(name: str) -> str:
    """Name a model's field so that it meets no attribute of pydantic's own ("copy", "schema")."""
    return f"p_{name}"


@lru_cache(maxsize=256)
def _model(target: Callable[..., object]) -> type[BaseModel]:
    """Build the pydantic model of a constructor; an untyped `**kwargs` accepts everything."""
    hints = _hints(target)
    open_ended = any(
        parameter.kind is parameter.VAR_KEYWORD and get_origin(hints.get(name)) is not Unpack
        for name, parameter in inspect.signature(target).parameters.items()
    )
    fields: dict[str, Any] = {}
    for name, one in _declared(target).items():
        default = ... if one.default is _REQUIRED else one.default
        fields[_field(name)] = (exact(one.hint), Field(default, alias=name))
    config = _config(extra="allow" if open_ended else "forbid")
    return create_model(getattr(target, "__name__", "Parameters"), __config__=config, **fields)


def _config(extra: Literal["allow", "forbid"] = "forbid") -> ConfigDict:
    return ConfigDict(extra=extra, arbitrary_types_allowed=True, protected_namespaces=())


def _check(model: type[BaseModel], params: Mapping[str, object], *, prefix: Path) -> BaseModel:
    try:
        return model.model_validate(dict(params))
    except ValidationError as error:
        lines = problems(error, model, prefix=prefix, noun="parameter")
        raise ScenarioError("\n".join(lines)) from None


def _type_text(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(map(_type_text, get_args(hint)))
    if get_origin(hint) is Annotated:
        plain, *bounds = get_args(hint)
        return f"{_type_text(plain)} {_range_text(bounds)}".rstrip()
    arguments = get_args(hint)
    if any(get_origin(one) is Annotated for one in arguments):
        name = getattr(get_origin(hint), "__name__", "")
        return f"{name}[{', '.join(map(_type_text, arguments))}]"
    text = hint.__name__ if inspect.isclass(hint) and not arguments else str(hint)
    return text.replace("typing.", "").replace("collections.abc.", "").replace("NoneType", "None")


def _range_text(bounds: Sequence[object]) -> str:
    """Write bounds of `annotated_types`: "from 0 to 1", ">= 1,000", "> 0 and < 1"; "" for none."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = {
        name: f"{getattr(bound, name):,}"
        for bound in bounds
        for name in signs
        if hasattr(bound, name)
    }
    if found.keys() == {"ge", "le"}:
        return f"from {found['ge']} to {found['le']}"
    return " and ".join(f"{signs[name]} {value}" for name, value in found.items())


def _default_text(value: object) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)
