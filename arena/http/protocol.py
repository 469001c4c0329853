"""What goes over the wire: tensors as the Open Inference Protocol (v2, REST) writes them.

A message is a JSON header, and behind it, where a tensor says `binary_data_size`, the tensors'
bytes, little-endian and in the order of the header. `Inference-Header-Content-Length` tells how
long the header is. Tensors may also stand in the header, as lists in `data`.

Source:
    Open Inference Protocol, REST API version 2, with the extensions "binary tensor data" and
    "statistics".
"""

import json
import math
import re
from collections.abc import Container, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

HEADER_LENGTH = "Inference-Header-Content-Length"
MODEL = "victim"
VERSION = "1"

LARGEST_JSON = 4 * 2**20
"""Bytes of a JSON header, tensors as lists among them; parsed, they take nine times the memory."""

Array = NDArray[Any]
"""`Any` in this file: an array of one of `DTYPES`, and JSON as it was parsed."""

DTYPES: Mapping[str, str] = {
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "|u1",
}
"""Datatypes of the protocol that are spoken here, as NumPy writes them."""

_NAMES = {np.dtype(code): name for name, code in DTYPES.items()}


class ProtocolError(ValueError):
    """A message that does not keep to the protocol; its text is for the other side."""


class Message(NamedTuple):
    """A message as it was read.

    Attributes:
        tensors: arrays by name.
        fields: the JSON header, with all else that it says.
    """

    tensors: dict[str, Array]
    fields: Mapping[str, Any]


class Wanted(NamedTuple):
    """What a request asks of the answer.

    Attributes:
        id: text that the answer repeats; None where the request has none.
        binary: for each output that is asked for, in the order of the answer, whether it comes as
            bytes.
    """

    id: str | None
    binary: Mapping[str, bool]


def encode(
    fields: Mapping[str, object],
    kind: str,
    tensors: Mapping[str, Array],
    *,
    as_lists: Container[str] = (),
) -> tuple[bytes, dict[str, str]]:
    """Write a message; returns its body and its headers.

    Args:
        fields: what else the JSON header says.
        kind: "inputs" or "outputs".
        tensors: arrays of one of `DTYPES`, by name.
        as_lists: names of those that stand in the JSON header; the others follow as bytes.
    """
    described, parts = [], []
    for name, values in tensors.items():
        datatype = _NAMES[values.dtype.newbyteorder("<")]
        entry: dict[str, object] = {
            "name": name, "datatype": datatype, "shape": list(values.shape)
        }  # fmt: skip
        if name in as_lists:
            entry["data"] = values.flatten().tolist()
        else:
            part = np.ascontiguousarray(values, dtype=DTYPES[datatype]).tobytes()
            entry["parameters"] = {"binary_data_size": len(part)}
            parts.append(part)
        described.append(entry)
    header = json.dumps({**fields, kind: described}).encode()
    if not parts:
        return header, {"Content-Type": "application/json"}
    headers = {HEADER_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"}
    return header + b"".join(parts), headers


def decode(body: bytes, header_length: str | None, kind: str) -> Message:
    """Read a message.

    Args:
        body: as it came.
        header_length: the value of `Inference-Header-Content-Length`; None where it is absent.
        kind: "inputs" or "outputs".

    Raises:
        ProtocolError: what was expected, and what came.
    """
    header, rest = _split(body, header_length)
    entries = header.get(kind)
    if not isinstance(entries, list) or not entries:
        raise ProtocolError(f"expected a list of '{kind}'")
    arrays: dict[str, Array] = {}
    for entry in entries:
        name, values, size = _tensor(entry, rest)
        if name in arrays:
            raise ProtocolError(f"expected each tensor once, got two '{name[:40]}'")
        arrays[name], rest = values, rest[size:]
    if rest:
        raise ProtocolError(f"expected no bytes behind the tensors, got {len(rest)}")
    return Message(arrays, header)


def wanted(request: Mapping[str, Any], offered: list[str]) -> Wanted:
    """Read which outputs a request asks for, and how they come; all of them where it names none.

    Args:
        request: its JSON header.
        offered: names of the outputs that there are.

    Raises:
        ProtocolError: an output that there is not, or a request that cannot be read.
    """
    id = request.get("id")
    if id is not None and (not isinstance(id, str) or len(id) > 1000):
        raise ProtocolError("expected id as a text of at most 1000 characters")
    usual = _flag(request, "binary_data_output", False)
    entries = request.get("outputs")
    if not entries and (entries is None or entries == []):
        return Wanted(id, dict.fromkeys(offered, usual))
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        raise ProtocolError("expected 'outputs' as a list of objects with a name")
    binary: dict[str, bool] = {}
    for entry in entries:
        name = entry.get("name")
        if name not in offered or name in binary:
            raise ProtocolError(
                f"expected each of 'outputs' once and one of {', '.join(offered)}, got "
                f"{ascii(name)[:40]}"
            )
        if isinstance(entry.get("parameters"), Mapping) and "classification" in entry["parameters"]:
            raise ProtocolError(f"{name}: the extension 'classification' is not offered")
        binary[name] = _flag(entry, "binary_data", usual)
    return Wanted(id, binary)


def _flag(entry: Mapping[str, Any], name: str, usual: bool) -> bool:
    parameters = entry.get("parameters", {})
    value = parameters.get(name, usual) if isinstance(parameters, Mapping) else None
    if not isinstance(value, bool):
        raise ProtocolError(f"expected the parameter {name} as true or false")
    return value


def _split(body: bytes, header_length: str | None) -> tuple[Mapping[str, Any], memoryview]:
    length = len(body)
    if header_length is not None:
        if not re.fullmatch("[0-9]{1,12}", header_length) or int(header_length) > len(body):
            raise ProtocolError(
                f"expected {HEADER_LENGTH} from 0 to {len(body)}, got {header_length[:40]}"
            )
        length = int(header_length)
    if length > LARGEST_JSON:
        raise ProtocolError(
            f"expected a JSON header of at most {LARGEST_JSON} bytes, got {length}; send tensors "
            f"as bytes behind it, or smaller batches"
        )
    try:
        header = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise ProtocolError("expected a JSON header") from error
    if not isinstance(header, dict):
        raise ProtocolError("expected a JSON object as header")
    return header, memoryview(body)[length:]


def _tensor(entry: object, rest: memoryview) -> tuple[str, Array, int]:
    """Read one tensor; returns its name, its values and the bytes it took of `rest`."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise ProtocolError("expected tensors with a name")
    name, datatype = entry["name"], entry.get("datatype")
    if len(name) > 100 or not name.isprintable():
        raise ProtocolError("expected names of at most 100 printable characters")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        got = repr(datatype)[:40]
        raise ProtocolError(f"{name}: expected datatype {', '.join(DTYPES)}, got {got}")
    shape = _shape(name, entry.get("shape"))
    dtype = np.dtype(DTYPES[datatype])
    count = math.prod(shape)
    parameters = entry.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, Mapping) else None
    if size is not None and (type(size) is not int or not 0 <= size < 2**31):
        raise ProtocolError(f"{name}: expected binary_data_size as a whole number below 2^31")
    if size is not None:
        due = count * dtype.itemsize
        if size != due or len(rest) < due:
            raise ProtocolError(
                f"{name}: expected {due} bytes for this shape, got {size!r} announced and "
                f"{len(rest)} sent"
            )
        return name, np.frombuffer(rest[:due], dtype).reshape(shape), due
    try:
        listed = np.array(_flat(entry.get("data"), shape))
        # NaN as a whole number is told below, and infinity where images are checked
        with np.errstate(invalid="ignore", over="ignore"):
            values = listed.astype(dtype).reshape(shape)
        exact = dtype.kind == "f" or np.array_equal(values, listed.reshape(shape))
    except (ValueError, TypeError, OverflowError) as error:
        raise ProtocolError(f"{name}: expected {count} numbers in 'data'") from error
    if not exact:
        raise ProtocolError(f"{name}: expected whole numbers of {datatype} in 'data'")
    return name, values, 0


def _flat(data: object, shape: Sequence[int]) -> list[object]:
    """Return listed numbers one after the other, nested as the shape says or not at all.

    Checked before NumPy sees them, which takes seconds and much memory for other nestings.

    Raises:
        TypeError, ValueError: they are others, or something else.
    """
    if not isinstance(data, list):
        raise TypeError(type(data).__name__)
    if not (data and isinstance(data[0], list)):
        shape = (math.prod(shape),)
    for depth, side in enumerate(shape):
        if depth:
            if set(map(type, data)) != {list} or set(map(len, data)) != {side}:
                raise ValueError(f"side {depth}")
            data = list(chain.from_iterable(data))
        elif len(data) != side:
            raise ValueError("side 0")
    if not set(map(type, data)) <= {int, float, bool}:
        raise ValueError("no numbers")
    return data


def _shape(name: str, given: object) -> tuple[int, ...]:
    if (
        not isinstance(given, list)
        or len(given) > 8
        or not all(type(side) is int and 0 <= side < 2**31 for side in given)
    ):
        raise ProtocolError(f"{name}: expected a shape of at most 8 whole numbers below 2^31")
    return tuple(given)
