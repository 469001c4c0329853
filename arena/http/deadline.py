"""Ends a request that outlasts its time, in whatever drops its answer comes."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx

# `Any` in this file: what httpx tells of a step.


class Deadline:
    """Bounds the time of each request of a client, one after the other.

    The timeouts of httpx bound every read by itself, so that a byte now and then holds a request
    for ever. Here its connection is shut down from another thread, which ends the read.

    Args:
        seconds: of a request, from its beginning to the end of its answer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._turn = seconds, threading.Lock()
        self._socket: socket.socket | None = None
        self._is_over = False

    def trace(self, step: str, told: Mapping[str, Any]) -> None:
        """Note the connection that is made: httpx's extension `trace`."""
        found = getattr(told.get("return_value"), "get_extra_info", lambda name: None)("socket")
        if isinstance(found, socket.socket):
            self._socket = found

    @contextmanager
    def running(self) -> Iterator[None]:
        """Bound the request inside; others wait, so that its connection is the only one in use.

        Raises:
            httpx.ReadTimeout: its time is over.
        """
        with self._turn:
            self._is_over = False
            timer = threading.Timer(self._seconds, self._end)
            timer.daemon = True
            timer.start()
            try:
                yield
            except httpx.HTTPError as error:
                if not self._is_over:
                    raise
                raise httpx.ReadTimeout(f"no whole answer within {self._seconds:g} s") from error
            finally:
                timer.cancel()

    def _end(self) -> None:
        self._is_over = True
        if self._socket is not None:
            with suppress(OSError):
                # of the plain socket: that of TLS would take its own state from under the reader
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
