"""Types for values that people write into files: exact, so that a mistake is not converted away.

TOML has real numbers, texts and truth values; "3" for a number or true for 1 is a slip. A whole
number may be written 1e5, because that is how budgets are written.
"""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, StrictBool
from pydantic_core import PydanticCustomError

# `Any` in this file: annotations and values of other people's signatures, of whatever type.

_NOT_EXACT = "not_exact"


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise PydanticCustomError(_NOT_EXACT, "expected a whole number")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError(_NOT_EXACT, "expected a number")
    return value


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError(_NOT_EXACT, "expected no truth value")
    return value


WHOLE = BeforeValidator(_whole)
"""Goes into Annotated[int, ...], after bounds: 1e5 is a whole number, "3" and true are not."""

NUMBER = BeforeValidator(_number)
"""Goes into Annotated[float, ...], after bounds: "3" and true are no numbers."""

_MARKS: Mapping[Any, BeforeValidator] = {int: WHOLE, float: NUMBER}
_EXACT: Mapping[Any, Any] = {
    int: Annotated[int, WHOLE],
    float: Annotated[float, NUMBER],
    bool: StrictBool,
}


def exact(hint: Any) -> Any:
    """Return the annotation with its plain numbers and booleans made exact, at every depth."""
    if hint in (int, float, bool):
        return _EXACT[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal and not any(isinstance(one, bool) for one in arguments):
        return Annotated[hint, BeforeValidator(_no_truth)]  # true equals 1
    if origin is Annotated and arguments[0] in _MARKS:
        return Annotated[*arguments, _MARKS[arguments[0]]]
    if origin is Annotated:
        return Annotated[exact(arguments[0]), *arguments[1:]]
    if origin in (Union, types.UnionType):
        return Union[tuple(exact(argument) for argument in arguments)]  # noqa: UP007 - built here
    if origin in (tuple, list, dict, set, frozenset, Sequence, Mapping):
        return origin[tuple(a if a is Ellipsis else exact(a) for a in arguments)]
    return hint
