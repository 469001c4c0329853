"""What the game and an isolated attacker say to each other: JSON in frames, arrays beside it.

A frame is four bytes of length, big-endian, and a JSON object with a text under "say". Arrays lie
in a shared file in memory and are copied out of it before anything looks at them, so that the
other side can change nothing that was checked. Nothing is ever unpickled.
"""

import json
import math
import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

# `Any` in this file: JSON as it was parsed.

MESSAGE_BYTES = 2**20
"""A message that is longer is refused unread."""

_LENGTH = struct.Struct(">I")


class ChannelError(Exception):
    """The other side is gone, or said what the protocol does not have."""


class ClosedChannelError(ChannelError):
    """The other side is gone."""


class Channel:
    """One end of the line.

    Args:
        line: a connected stream socket.
        shared: descriptor of the shared file.
        limit: bytes of a message that is received, at most; None where the sender is trusted.
    """

    def __init__(self, line: socket.socket, shared: int, limit: int | None = MESSAGE_BYTES) -> None:
        self._line, self._shared, self._limit = line, shared, limit
        self._received = bytearray()

    def send(self, say: str, **fields: object) -> None:
        """Send a message.

        Raises:
            ClosedChannelError: nobody will read it.
        """
        text = json.dumps({"say": say, **fields}).encode()
        try:
            self._line.sendall(_LENGTH.pack(len(text)) + text)
        except OSError as error:
            raise ClosedChannelError("the other side is gone") from error

    def receive(self, seconds: float | None = None) -> dict[str, Any]:
        """Wait for the next message.

        Raises:
            ClosedChannelError: the other side is gone.
            ChannelError: what came is no message.
            TimeoutError: none came within so many seconds.
        """
        end = None if seconds is None else time.monotonic() + seconds
        # the length stays with the text until all of it is there: a wait may be broken off
        self._fill(_LENGTH.size, end)
        (length,) = _LENGTH.unpack_from(self._received)
        if self._limit is not None and length > self._limit:
            raise ChannelError(f"a message of {length} bytes; at most {self._limit} are read")
        self._fill(_LENGTH.size + length, end)
        text = bytes(self._received[_LENGTH.size : _LENGTH.size + length])
        del self._received[: _LENGTH.size + length]
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ChannelError("a message that is no JSON") from error
        if not isinstance(message, dict) or not isinstance(message.get("say"), str):
            raise ChannelError("a message that says nothing")
        return message

    def _fill(self, count: int, end: float | None) -> None:
        """Wait until so many bytes are there; what came stays if this raises."""
        while len(self._received) < count:
            wait = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([self._line], [], [], wait)[0]:
                raise TimeoutError
            try:
                part = self._line.recv(2**16)
            except OSError as error:
                raise ClosedChannelError("the other side is gone") from error
            if not part:
                raise ClosedChannelError("the other side is gone")
            self._received += part

    def put(self, *tensors: Tensor) -> None:
        """Write tensors into the shared file, one behind the other."""
        place = 0
        for tensor in tensors:
            array = tensor.detach().cpu().contiguous().numpy()
            place = self.put_bytes(array.reshape(-1).view(np.uint8).data, place)

    def put_bytes(self, data: bytes | memoryview, place: int = 0) -> int:
        """Write bytes at a place of the shared file; returns the place behind them."""
        return write_at(self._shared, memoryview(data), place)

    def get(self, shape: tuple[int, ...], dtype: torch.dtype, place: int = 0) -> tuple[Tensor, int]:
        """Copy a tensor out of the shared file; returns it and the place behind it.

        Raises:
            ChannelError: the file is shorter.
        """
        self._require(math.prod(shape) * dtype.itemsize, place)
        tensor = torch.empty(shape, dtype=dtype)
        place = self._read_into(tensor.numpy().reshape(-1).view(np.uint8).data, place)
        return tensor, place

    def get_bytes(self, count: int, place: int = 0) -> bytearray:
        """Copy bytes out of the shared file.

        Raises:
            ChannelError: the file is shorter.
        """
        self._require(count, place)
        data = bytearray(count)
        self._read_into(memoryview(data), place)
        return data

    def _require(self, count: int, place: int) -> None:
        """Look at the shared file before room is made for what it is said to hold."""
        if place + count > os.fstat(self._shared).st_size:
            raise ChannelError("the shared file is shorter than was said")

    def _read_into(self, view: memoryview, place: int) -> int:
        # not through a mapping: a file that the other side shortens would end this process
        while view:
            got = os.preadv(self._shared, [view], place)
            if got == 0:
                raise ChannelError("the shared file is shorter than was said")
            view, place = view[got:], place + got
        return place

    def close(self) -> None:
        """Close this end."""
        self._line.close()
        file, self._shared = self._shared, -1
        os.close(file)  # no later write may reach a file that gets its number


def write_at(file: int, view: memoryview, place: int) -> int:
    """Write bytes at a place of a file; returns the place behind them."""
    while view:
        written = os.pwrite(file, view, place)
        view, place = view[written:], place + written
    return place


def text_of(message: Mapping[str, object], name: str, default: str = "") -> str:
    """Return a text of a message.

    Raises:
        ChannelError: it is none.
    """
    found = message.get(name, default)
    if not isinstance(found, str):
        raise ChannelError(f"'{name}' is no text")
    return found


def count_of(message: Mapping[str, object], name: str) -> int:
    """Return a whole number of a message, at least 0.

    Raises:
        ChannelError: it is none.
    """
    found = message.get(name)
    if type(found) is not int or found < 0:
        raise ChannelError(f"'{name}' is no count")
    return found
