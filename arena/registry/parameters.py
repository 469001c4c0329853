"""Reads what a class can be told from its constructor, and checks what it is told."""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Unpack, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticSerializationError, to_jsonable_python

from arena.registry.messages import Path, problems
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
    """

    name: str
    type: str
    default: str


def parameters(target: Callable[..., object]) -> list[Parameter]:
    """List what a class or function can be told by name."""
    return [
        Parameter(
            name,
            _type_text(one.hint),
            "" if one.default is _REQUIRED else _default_text(one.default),
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


def validated_by_defaults(
    defaults: Mapping[str, object],
    params: Mapping[str, object],
    *,
    choices: Mapping[str, tuple[str, ...]] | None = None,
    prefix: Path = (),
) -> None:
    """Check parameters where only names and defaults are known; a default tells the type.

    Args:
        defaults: by name.
        params: as written in a file.
        choices: the words that some of them are limited to.
        prefix: path of the table in the file, for the message.

    Raises:
        ScenarioError: one line for each unknown name, wrong type or wrong word.
    """
    types = {name: _type_of(default) for name, default in defaults.items()}
    types |= {name: Literal[words] for name, words in (choices or {}).items()}
    fields: dict[str, Any] = {
        _field(name): (types[name], Field(default, alias=name))
        for name, default in defaults.items()
    }
    _check(create_model("Parameters", __config__=_config(), **fields), params, prefix=prefix)


def _type_of(default: object) -> Any:
    if isinstance(default, bool):
        return exact(bool)
    if isinstance(default, int | float):  # width = 1 does not say that 0.5 is none
        return exact(float)
    return str if isinstance(default, str) else Any


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
    text = hint.__name__ if inspect.isclass(hint) and not get_args(hint) else str(hint)
    return text.replace("typing.", "").replace("collections.abc.", "").replace("NoneType", "None")


def _default_text(value: object) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)
