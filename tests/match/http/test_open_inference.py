"""The served victim keeps to the Open Inference Protocol, as a client of others reads it."""

import gzip
import json
import zlib

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from arena.http import arrival  # noqa: E402
from arena.http.client import InferenceClient  # noqa: E402
from arena.http.protocol import HEADER_LENGTH, decode  # noqa: E402

KEY = {"Authorization": "Bearer red"}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
MODEL = "/v2/models/victim"


def asked(datatype="FP32", data=None, **fields):
    """A request in JSON for the two images."""
    values = (IMAGES / np.float32(255)).flatten().tolist() if data is None else data
    images = {"name": "images", "datatype": datatype, "shape": [2, 1, 8, 8], "data": values}
    return {"inputs": [images], **fields}


def infer(url, body, headers=KEY, path=f"{MODEL}/infer"):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url + path, content=content, headers={**KEY, **headers})


def test_what_the_metadata_announce_is_there(serving):
    url, games = serving
    client = InferenceClient(url + MODEL, key="red")
    described = client.metadata()
    for version in described["versions"]:
        base = f"{url}{MODEL}/versions/{version}"
        assert httpx.get(f"{base}/ready").status_code == 200
        assert httpx.get(base, headers=KEY).json() == described
        assert infer(url, asked(), path=f"{MODEL}/versions/{version}/infer").status_code == 200
    given = {one["name"]: one for one in infer(url, asked()).json()["outputs"]}
    for output in described["outputs"]:
        told = given[output["name"]]
        assert told["datatype"] == output["datatype"]
        assert len(told["shape"]) == len(output["shape"])
    assert "statistics" in client.extensions()
    assert client.inference_count() == games["red"].used == 4
    client.close()


def test_the_datatypes_of_images_give_one_answer(serving):
    url, _ = serving
    first = infer(url, asked()).json()["outputs"][0]["data"]
    assert infer(url, asked("UINT8", IMAGES.flatten().tolist())).json()["outputs"][0]["data"] == (
        first
    )
    halves = (IMAGES / 255).astype(np.float16).flatten().tolist()
    assert infer(url, asked("FP16", halves)).json()["outputs"][0]["data"] == pytest.approx(
        first, abs=1e-2
    )


@pytest.mark.parametrize(
    ("fields", "names", "in_bytes"),
    [
        ({}, ["posteriors", "remaining", "latency"], []),
        ({"parameters": {"binary_data_output": True}},
         ["posteriors", "remaining", "latency"], ["posteriors", "remaining", "latency"]),
        ({"outputs": [{"name": "latency"}]}, ["latency"], []),
        ({"outputs": [{"name": "remaining"},
                      {"name": "posteriors", "parameters": {"binary_data": True}}]},
         ["remaining", "posteriors"], ["posteriors"]),
        ({"outputs": [{"name": "posteriors", "parameters": {"binary_data": False}}],
          "parameters": {"binary_data_output": True}}, ["posteriors"], []),
    ],
)  # fmt: skip
def test_the_outputs_asked_for_come_as_they_were_asked_for(serving, fields, names, in_bytes):
    url, _ = serving
    answer = infer(url, asked(id="a7", **fields))
    tensors, header = decode(answer.content, answer.headers.get(HEADER_LENGTH), "outputs")
    assert (header["id"], header["model_version"]) == ("a7", "1")
    assert list(tensors) == names
    assert [one["name"] for one in header["outputs"] if "data" not in one] == in_bytes


PACKED = {"Content-Encoding": "gzip"}
REFUSED = {
    "an unknown output": (asked(outputs=[{"name": "logits"}]), {}, 400, "one of posteriors"),
    "an output twice": (asked(outputs=[{"name": "latency"}] * 2), {}, 400, "once"),
    "outputs that are no list": (asked(outputs={"name": "latency"}), {}, 400, "list of objects"),
    "bytes neither true nor false": (
        asked(outputs=[{"name": "latency", "parameters": {"binary_data": 1}}]), {}, 400, "true or"
    ),
    "a classification": (
        asked(outputs=[{"name": "posteriors", "parameters": {"classification": 3}}]), {}, 400,
        "not offered",
    ),
    "an id that is a number": (asked(id=7), {}, 400, "id as a text"),
    "a packing that is unknown": (asked(), {"Content-Encoding": "br"}, 415, "gzip or deflate"),
    "a body that is not packed": (asked(), PACKED, 400, "packed as"),
    "half of a packed body": (gzip.compress(b" " * 9)[:9], PACKED, 400, "whole"),
    "more than is left": (
        {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [101, 1, 8, 8],
                     "data": [0] * 101 * 64}]}, {}, 403, "with 100 of 100 left"),
    "a wrong key": (asked(), {"Authorization": "Bearer rot"}, 401, "known API key"),
    "another scheme": (asked(), {"Authorization": "Basic red"}, 401, "known API key"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_has_an_error_and_costs_nothing(serving, case):
    url, games = serving
    body, headers, status, words = REFUSED[case]
    answer = infer(url, body, headers)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert words in answer.json()["error"]
    assert games["red"].used == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/", 404, "the model is at /v2/models/victim"),
        ("GET", "/v2/models/cat", 404, "expected 'victim'"),
        ("GET", f"{MODEL}/versions/2/ready", 404, "expected '1'"),
        ("POST", f"{MODEL}/versions/01/infer", 404, "expected '1'"),
        ("GET", f"{MODEL}/infer", 405, "Method Not Allowed"),
        ("POST", f"{MODEL}/clone", 400, "scores no clones"),
    ],
)
def test_what_is_not_there_is_told_as_an_error(serving, method, path, status, words):
    url, _ = serving
    answer = httpx.request(method, url + path, headers=KEY)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_packed_requests_are_read_and_answers_packed(serving):
    url, games = serving
    body = json.dumps(asked()).encode()
    plain = infer(url, body, {"Accept-Encoding": "identity"})
    for packing, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        answer = infer(url, packed, {"Content-Encoding": packing, "Accept-Encoding": "gzip"})
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.json()["outputs"][0] == plain.json()["outputs"][0]
    assert games["red"].used == 6


def test_a_small_body_that_unpacks_to_too_much_is_refused(serving, monkeypatch):
    url, games = serving
    monkeypatch.setattr(arrival, "LARGEST_BODY", 10_000)
    answer = infer(url, gzip.compress(b" " * 20_000), PACKED)
    assert (answer.status_code, games["red"].used) == (413, 0)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_scheme_of_the_key_is_read_in_any_case(serving, scheme):
    url, _ = serving
    assert infer(url, asked(), {"Authorization": f"{scheme} red"}).status_code == 200


def test_the_triton_client_asks_it_unmodified(serving):
    triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    url, games = serving
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("victim", "1")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    (given,) = client.get_model_metadata("victim", headers=dict(KEY))["inputs"]
    answers = []
    for number, binary in enumerate((True, False)):
        images = triton.InferInput(given["name"], [2, *given["shape"][1:]], given["datatype"])
        images.set_data_from_numpy(IMAGES / np.float32(255), binary_data=binary)
        answers.append(
            client.infer(
                "victim",
                [images],
                model_version="1",
                outputs=[triton.InferRequestedOutput("posteriors", binary_data=binary)],
                request_id=f"r{number}",
                headers=dict(KEY),
                request_compression_algorithm="gzip" if binary else "deflate",
                response_compression_algorithm="gzip" if binary else None,
            )
        )
        assert answers[-1].get_response()["id"] == f"r{number}"
    np.testing.assert_array_equal(*(answer.as_numpy("posteriors") for answer in answers))
    everything = client.infer("victim", [images], headers=dict(KEY))
    assert everything.as_numpy("remaining").tolist() == [94]
    (counted,) = client.get_inference_statistics("victim", headers=dict(KEY))["model_stats"]
    assert counted["inference_count"] == games["red"].used == 6
    with pytest.raises(triton.InferenceServerException, match="no model 'cat'"):
        client.infer("cat", [images], headers=dict(KEY))
    client.close()
