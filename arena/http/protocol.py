"""What goes over the wire: tensors as the Open Inference Protocol (v2, REST) writes them.

A message is a JSON header, and behind it, where a tensor says `binary_data_size`, the tensors'
bytes, little-endian and in the order of the header. `Inference-Header-Content-Length` tells how
long the header is. Tensors may also stand in the header, as lists in `data`.

Source:
    Open Inference Protocol, REST API version 2, with the extension "binary tensor data".
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER_LENGTH = "Inference-Header-Content-Length"
MODEL = "victim"

LARGEST_JSON = 8 * 2**20
"""Bytes of a JSON header, tensors as lists among them; parsed, they take nine times the memory."""

Array = NDArray[Any]
"""`Any` in this file: an array of one of `DTYPES`, and JSON as it was parsed."""

DTYPES: Mapping[str, str] = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"}
"""Datatypes of the protocol that are spoken here, as NumPy writes them."""

_NAMES = {np.dtype(code): name for name, code in DTYPES.items()}


class ProtocolError(ValueError):
    """A message that does not keep to the protocol; its text is for the other side."""


def encode(fields: Mapping[str, object], kind: str, tensors: Mapping[str, Array]) -> tuple[
    bytes, dict[str, str]
]:  # fmt: skip
    """Write a message with binary tensors; returns its body and its headers.

    Args:
        fields: what else the JSON header says.
        kind: "inputs" or "outputs".
        tensors: float32, float64 or int64 arrays, by name.
    """
    described, parts = [], []
    for name, values in tensors.items():
        datatype = _NAMES[values.dtype.newbyteorder("<")]
        part = np.ascontiguousarray(values, dtype=DTYPES[datatype]).tobytes()
        described.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": list(values.shape),
                "parameters": {"binary_data_size": len(part)},
            }
        )
        parts.append(part)
    header = json.dumps({**fields, kind: described}).encode()
    headers = {HEADER_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"}
    return header + b"".join(parts), headers


def as_json(fields: Mapping[str, object], tensors: Mapping[str, Array]) -> dict[str, object]:
    """Write an answer with its tensors as lists, for those who asked that way."""
    outputs = [
        {
            "name": name,
            "datatype": _NAMES[values.dtype.newbyteorder("<")],
            "shape": list(values.shape),
            "data": values.flatten().tolist(),
        }
        for name, values in tensors.items()
    ]
    return {**fields, "outputs": outputs}


def decode(body: bytes, header_length: str | None, kind: str) -> tuple[dict[str, Any], bool]:
    """Read a message.

    Args:
        body: as it came.
        header_length: the value of `Inference-Header-Content-Length`; None where it is absent.
        kind: "inputs" or "outputs".

    Returns:
        Arrays by name, and whether any came as bytes.

    Raises:
        ProtocolError: what was expected, and what came.
    """
    header, rest = _split(body, header_length)
    entries = header.get(kind)
    if not isinstance(entries, list) or not entries:
        raise ProtocolError(f"expected a list of '{kind}'")
    arrays: dict[str, Any] = {}
    binary = False
    for entry in entries:
        name, values, size = _tensor(entry, rest)
        if name in arrays:
            raise ProtocolError(f"expected each tensor once, got two '{name[:40]}'")
        arrays[name], rest, binary = values, rest[size:], binary or size > 0
    if rest:
        raise ProtocolError(f"expected no bytes behind the tensors, got {len(rest)}")
    return arrays, binary


def _split(body: bytes, header_length: str | None) -> tuple[Mapping[str, Any], bytes]:
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
    return header, body[length:]


def _tensor(entry: object, rest: bytes) -> tuple[str, Array, int]:
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
        values = np.array(entry.get("data"), dtype=dtype).reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise ProtocolError(f"{name}: expected {count} numbers in 'data'") from error
    return name, values, 0


def _shape(name: str, given: object) -> tuple[int, ...]:
    if (
        not isinstance(given, list)
        or len(given) > 8
        or not all(type(side) is int and 0 <= side < 2**31 for side in given)
    ):
        raise ProtocolError(f"{name}: expected a shape of at most 8 whole numbers below 2^31")
    return tuple(given)
