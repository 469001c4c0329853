"""How requests arrive at a server: whole, within bounds of size and of time."""

import asyncio
import socket
import zlib

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

LARGEST_BODY = 256 * 2**20
"""Bytes of a request at most, as it comes and unpacked."""

PATIENCE = 60
"""Seconds in which a request has to arrive."""

HEAD_SECONDS = 10.0
"""Seconds in which the head of a request has to arrive, from the first byte or the connection."""

MOST_CONNECTIONS = 256
"""Further ones are refused, so that clients that open and ask nothing do not take all."""

_TCP = (socket.AF_INET, socket.AF_INET6)
_WINDOW = {"gzip": 31, "deflate": 15}  # what zlib calls the two ways to pack a body


class TimedConnection(H11Protocol):
    """A connection that is closed where no request comes: open ones are counted, and few."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for a request, and send answers as they come."""
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in _TCP:
            # else a body waits 40 ms for the client to confirm its head; asyncio sees to it for
            # sockets of its own alone
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._deadline = self.loop.call_later(HEAD_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Wait on, unless a request is there; a byte now and then buys no time."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def server_config(app: FastAPI, *, log_level: str = "warning") -> uvicorn.Config:
    """Say how a web application is served."""
    return uvicorn.Config(
        app,
        log_level=log_level,
        lifespan="off",
        http=TimedConnection,
        ws="none",
        limit_concurrency=MOST_CONNECTIONS,
    )


async def read_body(request: Request) -> bytes:
    """Read a body, and unpack it where it is packed; none is kept that is too large.

    Raises:
        HTTPException: it is too large, packed in another way, late, or not whole.
    """
    packing = request.headers.get("Content-Encoding", "identity").strip().lower()
    if packing != "identity" and packing not in _WINDOW:
        raise HTTPException(415, f"expected Content-Encoding gzip or deflate, got {packing[:40]}")
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for part in request.stream():
                if len(body) + len(part) > LARGEST_BODY:
                    raise _too_large()
                body += part
    except TimeoutError:
        raise HTTPException(408, f"expected the whole request within {PATIENCE} s") from None
    except ClientDisconnect:  # the refusal reaches nobody
        raise HTTPException(400, "expected the whole request, got a part of one") from None
    if packing == "identity":
        return bytes(body)
    # in a thread: it takes seconds, in which others are to be answered
    return await run_in_threadpool(_unpacked, bytes(body), _WINDOW[packing])


def _unpacked(body: bytes, window: int) -> bytes:
    reader = zlib.decompressobj(window)
    try:
        unpacked = reader.decompress(body, LARGEST_BODY + 1)
    except zlib.error:
        raise HTTPException(400, "expected a body packed as Content-Encoding says") from None
    if len(unpacked) > LARGEST_BODY:
        raise _too_large()
    if not reader.eof:
        raise HTTPException(400, "expected a whole packed body, got a part of one")
    return unpacked


def _too_large() -> HTTPException:
    return HTTPException(413, f"expected at most {LARGEST_BODY} bytes")
