"""How requests arrive: late, cut short, packed, and many at a time."""

import asyncio
import logging
import socket
import threading
import time

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from arena.http import arrival, server  # noqa: E402
from arena.http.protocol import encode  # noqa: E402
from arena.http.server import Account, create_app  # noqa: E402
from envs.seeding import Streams  # noqa: E402
from tests.match.http.conftest import AlwaysSame, running  # noqa: E402

INFER = "/v2/models/victim/infer"
HEAD = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer red\r\nContent-Length: 9\r\n\r\n"


def connected(url, words):
    line = socket.create_connection(url.removeprefix("http://").rsplit(":", 1), timeout=20)
    line.sendall(words.encode())
    return line


def one_image(count=1):
    return encode({}, "inputs", {"images": np.full((count, 1, 8, 8), 0.5, np.float32)})


@pytest.mark.parametrize("words", ["", "POST /v2/mod", "GET /v2 HTTP/1.1\r\nHost: x\r\n\r\nGE"])
def test_a_connection_without_a_request_is_closed(serving, monkeypatch, words):
    url, _ = serving
    monkeypatch.setattr(arrival, "HEAD_SECONDS", 0.2)
    with connected(url, words) as line:
        began = time.monotonic()
        for _ in range(4):  # a byte now and then buys no time
            time.sleep(0.03)
            if words:
                line.sendall(b"X")
        while line.recv(10_000):
            pass
        assert time.monotonic() - began < 4  # that of an idle connection is 5


def test_answers_leave_at_once(serving, monkeypatch):
    """Nagle's algorithm would keep a body back until its head is confirmed, some 40 ms."""
    url, _ = serving
    at_once = []
    received = arrival.TimedConnection.data_received

    def seen(self, data):
        line = self.transport.get_extra_info("socket")
        at_once.append(line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        received(self, data)

    monkeypatch.setattr(arrival.TimedConnection, "data_received", seen)
    assert httpx.get(f"{url}/v2").status_code == 200
    assert at_once
    assert all(at_once)


def test_a_slow_body_and_a_slow_answer_outlive_the_time_of_a_head(table, monkeypatch):
    monkeypatch.setattr(arrival, "HEAD_SECONDS", 0.1)
    account = Account("red", table.new_game(AlwaysSame(), Streams(0)))
    body, headers = one_image()

    def slowly():
        for place in range(0, len(body), 1 + len(body) // 3):
            yield body[place : place + 1 + len(body) // 3]
            time.sleep(0.1)

    ask = Account.ask
    monkeypatch.setattr(
        Account, "ask", lambda self, images: (time.sleep(0.3), ask(self, images))[1]
    )
    with running(create_app({"red": account})) as url, httpx.Client() as client:
        for content in (slowly(), body):
            answer = client.post(
                url + INFER, content=content, headers={"Authorization": "Bearer red", **headers}
            )
            assert answer.status_code == 200
    assert account.game.used == 2


def test_a_client_that_leaves_amid_its_body_is_no_fault_of_the_server(serving, caplog):
    url, games = serving
    caplog.set_level(logging.ERROR)
    connected(url, HEAD + "{").close()
    assert httpx.get(f"{url}/v2/health/ready").status_code == 200
    time.sleep(0.1)
    assert caplog.records == []
    assert games["red"].used == 0


def test_what_one_key_sends_takes_one_thread_and_two_bodies(table, monkeypatch):
    """The others have threads left, and memory."""
    games = {key: table.new_game(AlwaysSame(), Streams(0)) for key in ("red", "blue")}
    free, reading, most = threading.Event(), [0], [0]
    ask, read = Account.ask, server.read_body

    def waiting(self, images):
        if self.name == "red":
            free.wait(20)
        return ask(self, images)

    async def counted(request):
        reading[0] += 1
        most[0] = max(most[0], reading[0])
        await asyncio.sleep(0)
        return await read(request)

    monkeypatch.setattr(Account, "ask", waiting)
    monkeypatch.setattr(server, "read_body", counted)
    body, headers = one_image()

    def post(key):
        auth = {"Authorization": f"Bearer {key}", **headers}
        return httpx.post(url + INFER, content=body, headers=auth, timeout=30).status_code

    with running(create_app({key: Account(key, game) for key, game in games.items()})) as url:
        many = [threading.Thread(target=post, args=["red"]) for _ in range(45)]  # of 40 threads
        for one in many:
            one.start()
        while reading[0] < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        assert most[0] == 2
        assert post("blue") == 200
        free.set()
        for one in many:
            one.join(30)
    assert (games["red"].used, games["blue"].used) == (45, 1)


def test_a_packed_body_is_unpacked_beside_the_loop(serving, monkeypatch):
    url, _ = serving
    threads = []
    unpacked = arrival._unpacked
    monkeypatch.setattr(
        arrival, "_unpacked",
        lambda body, window: (threads.append(threading.current_thread().name),
                              unpacked(body, window))[1],
    )  # fmt: skip
    auth = {"Authorization": "Bearer red", "Content-Encoding": "gzip"}
    assert httpx.post(url + INFER, content=b"no gzip", headers=auth).status_code == 400
    assert "worker" in threads[0].lower()
