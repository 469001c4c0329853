"""The file of one cache entry: a line with the SHA-256 of the rest, then what `torch.save` writes.

The rest holds the spec that the entry was made from, as JSON in one form, beside its tensors, so
that a file under a wrong name is noticed.
"""

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

JSON = None | bool | int | float | str | list["JSON"] | tuple["JSON", ...] | Mapping[str, "JSON"]

_MAGIC = b"fortress-arena cache 1 "
_HEADER = len(_MAGIC) + 64 + 1  # the digest in hexadecimal, and a newline


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What one entry of the cache holds.

    Args:
        state: tensors by name, as `Module.state_dict()` gives them.
        meta: what shall be known about them: accuracy, seconds. Plain JSON.
    """

    state: dict[str, Tensor]
    meta: Mapping[str, JSON] = field(default_factory=dict)


class Damaged(Exception):  # noqa: N818 - never leaves the cache
    """An entry that cannot be trusted; says why."""


def canonical(spec: Mapping[str, JSON]) -> str:
    """Write JSON in the one form that is digested."""
    try:
        _check_keys(spec)
        return json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a cache spec must be plain JSON: {error}") from error


def _check_keys(value: object) -> None:
    """Refuse keys that are no strings: JSON would make "1" of 1, and two specs one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no string")
            _check_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_keys(inner)


def encoded(spec: Mapping[str, JSON], stored: Stored) -> bytes:
    """Write an entry to bytes: the header with the digest, then the payload."""
    for name, tensor in stored.state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise TypeError(f"expected a tensor under {name!r}, got {type(tensor).__name__}")
    # a clone, because saving a view would write all of what it is a view of
    state = {name: tensor.detach().cpu().clone() for name, tensor in stored.state.items()}
    payload = {"spec": canonical(spec), "meta": json.dumps(stored.meta), "state": state}
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    data = buffer.getvalue()
    return _MAGIC + hashlib.sha256(data).hexdigest().encode() + b"\n" + data


def decoded(data: bytes, spec: Mapping[str, JSON], device: torch.device | str) -> Stored:
    """Read an entry from bytes; `Damaged` where anything about it is wrong."""
    header, body = data[:_HEADER], data[_HEADER:]
    if not header.startswith(_MAGIC):
        raise Damaged("it is no file of this cache, or of another version")
    if header[len(_MAGIC) :] != hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise Damaged("its checksum is wrong")
    try:
        payload = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
        written, meta, state = payload["spec"], json.loads(payload["meta"]), payload["state"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError) as e:
        raise Damaged(f"it cannot be read ({type(e).__name__})") from e
    if written != canonical(spec):
        raise Damaged("it was made from another spec")
    if not all(isinstance(t, Tensor) for t in state.values()):
        raise Damaged("its state holds something else than tensors")
    return Stored(dict(state), meta)


def check_like(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    """Refuse tensors that the network they are for cannot take."""
    if state.keys() != like.keys():
        odd = min(state.keys() ^ like.keys())
        raise Damaged(f"its tensors are not the network's: '{odd}' is in only one of them")
    for name, tensor in state.items():
        if tensor.shape != like[name].shape or tensor.dtype != like[name].dtype:
            raise Damaged(
                f"'{name}' is {tuple(tensor.shape)} {tensor.dtype}, "
                f"the network's is {tuple(like[name].shape)} {like[name].dtype}"
            )
