"""Serves the pages of a log on this machine, and to no other; reads the log and writes nothing."""

import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from arena.report.live import Found
from arena.report.view.site import Site
from envs.errors import ArenaError, ScenarioError, UnknownName, one_line

HOST = "127.0.0.1"
_OURS = frozenset({HOST, "localhost"})
"""Names of this machine; a page of another site that points its own name here is refused."""

_PLAIN = "text/plain"


class LiveServer(ThreadingHTTPServer):
    """Answers a browser on this machine.

    Args:
        site: what it shows.
        port: 0 takes a free one.

    Raises:
        ArenaError: the port is taken, or may not be used.
    """

    daemon_threads = True

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
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
        path, _, query = self.path.partition("?")
        name = (self.headers.get("Host") or "").rpartition(":")[0]
        if name not in _OURS:
            found = Found("asked by another name", _PLAIN, HTTPStatus.FORBIDDEN)
        else:
            try:
                found = self.server.site.answer(path, query)
            except UnknownName as error:  # in the address, which may be old
                found = Found(str(error), _PLAIN, HTTPStatus.NOT_FOUND)
            except ScenarioError as error:
                found = Found(str(error), _PLAIN, HTTPStatus.BAD_REQUEST)
            except ArenaError as error:  # the log is locked, or gone; perhaps not the next time
                found = Found(str(error), _PLAIN, HTTPStatus.SERVICE_UNAVAILABLE)
            except Exception as error:  # of a damaged log; the server goes on
                text = f"this log cannot be shown ({one_line(error)}); see 'arena log check'"
                found = Found(text, _PLAIN, HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(found, with_text=with_text)

    def _send(self, found: Found, *, with_text: bool) -> None:
        content = found.text.encode("utf-8", "replace")
        self.send_response(found.status)
        self.send_header("Content-Type", f"{found.kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if found.address:  # shown in place of the long one that a form makes
            self.send_header("HX-Replace-Url", found.address)
        if found.status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Refresh", "3")
        self.end_headers()
        if with_text:
            self.wfile.write(content)
