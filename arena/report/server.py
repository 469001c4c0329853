"""Serves the report on this machine while episodes are played; reads the log and writes nothing."""

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from markupsafe import Markup

from arena.analysis.episode_data import gather
from arena.log.rows import EpisodeFilter, EpisodeRow
from arena.log.store import Log
from arena.report.html import PageContents, body_of, packaged, page
from arena.report.running import now_block
from envs.errors import ArenaError, one_line

HOST = "127.0.0.1"
_OURS = frozenset({HOST, "localhost"})
"""Names of this machine; a page of another site that points its own name here is refused."""


class Found(NamedTuple):
    """What an answer is made of."""

    text: str
    kind: str


@dataclass(frozen=True)
class _Kept:
    """The part of the page that takes seconds, and the state it shows."""

    state: str
    body: PageContents


class LivePage:
    """The report about some episodes of a log, as it stands at each moment.

    Figures of a game are drawn again only when another episode of it has ended.

    Args:
        log: is only read.
        which: episodes it is about; all where None.
        title: of the page.
    """

    def __init__(
        self, log: Log, which: EpisodeFilter | None = None, *, title: str | None = None
    ) -> None:
        self._log, self._which, self._title = log, which, title
        self._kept: _Kept | None = None
        self._drawing = threading.Lock()  # one at a time: it is heavy, and matplotlib has globals

    def page(self) -> Found:
        """Give the whole page."""
        episodes = self._episodes()
        kept = self._up_to_date(episodes)
        text = page(kept.body, title=self._title, live=self._now(episodes), state=kept.state)
        return Found(text, "text/html")

    def now(self) -> Found:
        """Give the part about what is being played."""
        return Found(str(self._now(self._episodes())), "text/html")

    def state(self) -> Found:
        """Give short names of what page and part would show now."""
        episodes = self._episodes()
        names = {"report": _state(episodes), "now": _digest(self._now(episodes))}
        return Found(json.dumps(names), "application/json")

    def script(self) -> Found:
        """Give the script that follows the log."""
        return Found(packaged("live.js"), "text/javascript")

    def _episodes(self) -> list[EpisodeRow]:
        """List the episodes, the oldest first, as a report names them."""
        return list(reversed(self._log.episodes(self._which, brief=True)))

    def _now(self, episodes: Sequence[EpisodeRow]) -> Markup:
        return now_block(self._log, episodes)

    def _up_to_date(self, episodes: Sequence[EpisodeRow]) -> _Kept:
        state = _state(episodes)
        with self._drawing:
            if self._kept is None or self._kept.state != state:
                ended = [row.id for row in episodes if row.status != "started"]
                before = None if self._kept is None else self._kept.body
                body = (
                    body_of(gather(self._log, ended), before)
                    if ended
                    else PageContents([], [], "no episode")
                )
                self._kept = _Kept(state, body)
            return self._kept


def _state(episodes: Sequence[EpisodeRow]) -> str:
    return _digest([(row.id, row.status) for row in episodes if row.status != "started"])


def _digest(value: object) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()[:16]


class LiveServer(ThreadingHTTPServer):
    """Answers a browser on this machine.

    Args:
        live: what it shows.
        port: 0 takes a free one.

    Raises:
        ArenaError: the port is taken, or may not be used.
    """

    daemon_threads = True

    def __init__(self, live: LivePage, port: int) -> None:
        self.live = live
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ArenaError(
                f"cannot serve at {HOST}:{port}: {error.strerror}; choose another --port, or 0 for "
                f"a free one"
            ) from error

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of browsers that go away before the answer; of all else what it was."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; whatever else there is, the base class refuses."""

    server: LiveServer
    server_version, sys_version = "arena", ""

    def do_GET(self) -> None:
        self._answer(with_text=True)

    def do_HEAD(self) -> None:
        self._answer(with_text=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a page that looks every two seconds would fill the terminal."""

    def _answer(self, *, with_text: bool) -> None:
        live = self.server.live
        pages: dict[str, Callable[[], Found]] = {
            "/": live.page,
            "/now": live.now,
            "/state": live.state,
            "/live.js": live.script,
        }
        status, found = HTTPStatus.OK, Found("", "text/plain")
        name = (self.headers.get("Host") or "").rpartition(":")[0]
        make = pages.get(self.path.partition("?")[0])
        if name not in _OURS:
            status, found = HTTPStatus.FORBIDDEN, Found("asked by another name", "text/plain")
        elif make is None:
            status, found = HTTPStatus.NOT_FOUND, Found("there is no such page", "text/plain")
        else:
            try:
                found = make()
            except ArenaError as error:  # the log is locked, or gone; perhaps not the next time
                status = HTTPStatus.SERVICE_UNAVAILABLE
                found = Found(str(error), "text/plain")
            except Exception as error:  # of a damaged log; the server goes on
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                text = f"this log cannot be shown ({one_line(error)}); see 'arena log check'"
                found = Found(text, "text/plain")
        self._send(status, found, with_text=with_text)

    def _send(self, status: HTTPStatus, found: Found, *, with_text: bool) -> None:
        content = found.text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{found.kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Refresh", "3")
        self.end_headers()
        if with_text:
            self.wfile.write(content)
