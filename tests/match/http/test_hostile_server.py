"""A victim elsewhere that answers badly: it neither holds, fills nor crashes who asks it."""

import contextlib
import gzip
import socket
import threading
import time
import tracemalloc

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")

from arena.http import client as clients  # noqa: E402
from arena.http.channels import Form, RequestFailed  # noqa: E402
from arena.http.client import InferenceClient  # noqa: E402
from envs.errors import ArenaError, ScenarioError  # noqa: E402

URL = "http://victim/v2/models/victim"
IMAGES = {"images": np.zeros((1, 1, 8, 8), np.float32)}
DEEP = b"[" * 200_000


def answering(body, status=200, **headers):
    """A client whose server answers this to everything."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(status, content=body, headers=headers)
    )
    return InferenceClient(URL, transport=transport)


def test_json_that_nests_without_end_is_no_json():
    assert answering(DEEP).metadata() == {}
    assert answering(DEEP).inference_count() is None
    for status in (400, 500):
        with pytest.raises(RequestFailed, match=f"status {status}"):
            answering(DEEP, status).infer(IMAGES)
    with pytest.raises(ArenaError, match="cannot be read"):
        answering(DEEP).infer(IMAGES)


def test_a_negative_count_is_none():
    assert answering(b'{"model_stats": [{"inference_count": -5}]}').inference_count() is None
    assert answering(b'{"model_stats": [{"inference_count": 5}]}').inference_count() == 5


GOOD = {"name": "images", "datatype": "FP32", "shape": [-1, 1, 8, 8]}
SCORES = {"name": "posteriors", "datatype": "FP32", "shape": [-1, 10]}


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("fault", [{"datatype": None}, {"name": None}, {"name": ["x"]},
                                   {"datatype": {}}, {"shape": None}, {"shape": 3}])  # fmt: skip
def test_metadata_of_other_kinds_is_refused_in_one_line(side, fault):
    told = {"inputs": [GOOD], "outputs": [SCORES]}
    told[side] = [told[side][0] | fault]
    with pytest.raises(ScenarioError, match="describes no inputs and outputs") as caught:
        Form(told, URL, image_shape=(1, 8, 8), num_classes=10)
    assert "\n" not in str(caught.value)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
GOOD_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
DRIPS = {
    "body": (b"", HEAD, b" "),
    "headers": (b"", b"HTTP/1.1 200 OK\r\nA: ", b"x"),
    "status": (b"", b"", b"x"),
    "informed": (b"", b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "second": (GOOD_ANSWER, b"HTTP/1.1 200 OK\r\nA: ", b"x"),
}  # fmt: skip
"""What is answered to a first request if any, what an answer begins with, and its drops."""


@pytest.fixture(params=DRIPS)
def dripping(request):
    """The address of a server that sends its answer drop by drop, one each 0.1 s."""
    first, begin, drop = DRIPS[request.param]

    def serve(server):
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                connection.recv(2**16)
                if first:
                    connection.sendall(first)
                    connection.recv(2**16)
                connection.sendall(begin)
                for _ in range(100):
                    time.sleep(0.1)
                    connection.sendall(drop)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v2/models/victim"


def test_an_answer_that_drips_ends_with_the_time_for_it(dripping):
    client, began = InferenceClient(dripping, timeout=0.5, proxies=False), time.monotonic()
    with pytest.raises(RequestFailed, match="no whole answer within"):
        # the second by the connection of the first
        [client.metadata() for _ in range(2)]
    assert time.monotonic() - began < 4
    client.close()


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_without_end_is_not_read(monkeypatch, packed):
    monkeypatch.setattr(clients, "MOST_BYTES", 2**20)
    body = b" " * 2**25
    headers = {"Content-Encoding": "gzip"} if packed else {}
    sent = gzip.compress(body) if packed else body
    parts = (sent[place : place + 4096] for place in range(0, len(sent), 4096))
    client = answering(parts, **headers)
    tracemalloc.start()
    try:
        with pytest.raises(ArenaError, match="more than 1048576 bytes"):
            client.infer(IMAGES)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
