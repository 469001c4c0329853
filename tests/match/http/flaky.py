"""A server of another protocol that drops connections, refuses, and is restarted in between."""

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import torch

CLIENT = '''
"""Asks the server of flaky.py."""

import json
from http.client import HTTPConnection
from urllib.error import HTTPError


class MyClient:
    def __init__(self, port, api_key=None):
        self.port, self.key = port, api_key

    def predict(self, images):
        return [row["scores"] for row in self._call("POST", images.tolist())]

    {counted}

    def _call(self, method, body=None):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, "/x?key=" + str(self.key), json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise HTTPError("/x?key=" + str(self.key), answer.status, "refused", answer.headers, None)
        return json.loads(text)
'''  # noqa: E501
COUNTED = 'def counted(self):\n        return self._call("GET")["images"]'


class FlakyServer:
    """Serves posteriors; its count outlives restarts.

    Args:
        answer: gives (n, K) posteriors of (n, c, h, w) images.
        faults: what happens to each request in turn ("ok", "before", "after", "429", "503",
            "restart"), where one that is lost "after" was counted; drawn if absent.
    """

    def __init__(self, answer, faults=None):
        self._answer, self._faults = answer, faults
        self._random, self._lock = Random(0), threading.Lock()
        self.counted = self.answered = self.requests = self.restarts = 0
        self.keys = set()
        self._open(0)

    @property
    def port(self):
        return self._server.server_address[1]

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _open(self, port):
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._send({"images": flaky.counted})

            def do_POST(self):
                images = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                flaky.keys.add(self.path.partition("key=")[2])
                with flaky._lock:
                    fault = flaky._fault()
                    if fault in ("429", "503"):
                        self.send_response(int(fault))
                        self.send_header("Retry-After", "0")
                        self.end_headers()
                        return
                    if fault == "before":
                        return  # closes the connection
                    flaky.counted += len(images)
                    if fault == "restart":
                        flaky._restart()
                    if fault in ("after", "restart"):
                        return
                    flaky.answered += len(images)
                    scores = flaky._answer(torch.tensor(images)).tolist()
                self._send([{"scores": row} for row in scores])

            def _send(self, told):
                self.send_response(200)
                self.end_headers()
                with suppress(BrokenPipeError):
                    self.wfile.write(json.dumps(told).encode())

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _fault(self):
        self.requests += 1
        if self._faults is not None:
            return self._faults.pop(0) if self._faults else "ok"
        if self.requests % 9 == 0:
            return "restart"
        drawn = self._random.random()
        return "before" if drawn < 1 / 6 else "after" if drawn < 1 / 3 else (
            "429" if drawn < 1 / 2 else "ok"
        )  # fmt: skip

    def _restart(self):
        self.restarts += 1
        port, old = self.port, self._server

        def again():
            old.shutdown()
            old.server_close()
            self._open(port)

        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
