"""The victim behind HTTP: the wire format, the server, the oracle that asks it."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


from agents.attackers.noise import Noise  # noqa: E402
from agents.base import Kit  # noqa: E402
from arena.http.protocol import HEADER_LENGTH, ProtocolError, decode, encode  # noqa: E402
from arena.http.remote_oracle import RemoteOracle  # noqa: E402
from envs.errors import ArenaError, BudgetExhausted, QueryError  # noqa: E402
from envs.game.extraction_game import ExtractionGame  # noqa: E402
from envs.game.game_oracle import GameOracle  # noqa: E402
from envs.nets import registry  # noqa: E402
from envs.oracle import Oracle  # noqa: E402
from envs.seeding import Streams  # noqa: E402
from tests.match.http.conftest import AlwaysSame  # noqa: E402

VICTIM = "/v2/models/victim"

# The wire


def test_tensors_come_back_bit_for_bit():
    sent = {
        "images": np.random.default_rng(0).random((2, 1, 3, 3), dtype=np.float32),
        "latency": np.array([1e-9, np.pi]),
        "remaining": np.array([2**60], dtype=np.int64),
    }
    body, headers = encode({"id": "7"}, "inputs", sent)
    got, fields = decode(body, headers[HEADER_LENGTH], "inputs")
    assert fields["id"] == "7"
    assert list(got) == list(sent)
    for name, values in sent.items():
        np.testing.assert_array_equal(got[name], values)
        assert got[name].dtype == values.dtype


@pytest.mark.parametrize(
    ("body", "length", "words"),
    [
        (b"", None, "JSON header"),
        (b"[1]", None, "JSON object"),
        (b"{}", None, "list of 'inputs'"),
        (b"{}", "9", "from 0 to 2"),
        (b"{}", "-1", "from 0 to 2"),
        (b'{"inputs": [{"name": "x", "datatype": "BF16", "shape": [1]}]}', None, "datatype FP16"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]}', None, "whole numbers"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1]}]}', None,
         "2 numbers"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "parameters": '
         b'{"binary_data_size": 8}}]}', None, "expected 8 bytes"),
    ],
)  # fmt: skip
def test_a_broken_message_is_refused_with_what_was_expected(body, length, words):
    with pytest.raises(ProtocolError, match=words):
        decode(body, length, "inputs")


@settings(deadline=None)
@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=5)))
def test_no_bytes_break_the_reader(body, length):
    with pytest.raises(ProtocolError):
        decode(body, length, "inputs")


# The server


def test_a_remote_victim_answers_as_one_in_process(serving, table):
    url, _ = serving
    here = GameOracle(table.new_game(AlwaysSame(), Streams(0)))
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with RemoteOracle(url, "red") as there:
        oracle: Oracle = there
        assert oracle.threat == here.threat
        for _ in range(2):
            ours, theirs = here.query(images), oracle.query(images)
            assert torch.equal(ours.posteriors, theirs.posteriors)
            assert torch.equal(ours.latency, theirs.latency)
            assert oracle.remaining == here.remaining


def test_each_key_has_a_budget_of_its_own_and_a_refusal_costs_nothing(serving):
    url, games = serving
    with RemoteOracle(url, "red") as red, RemoteOracle(url, "blue") as blue:
        red.query(torch.rand(98, 1, 8, 8))
        with pytest.raises(BudgetExhausted, match="asked for 3 answers with 2 of 100 left"):
            red.query(torch.rand(3, 1, 8, 8))
        with pytest.raises(QueryError, match="outside it, NaN"):
            blue.query(torch.full((2, 1, 8, 8), torch.nan))
        with pytest.raises(QueryError, match="expected images of shape"):
            blue.query(torch.rand(2, 1, 9, 9))
    assert (games["red"].used, games["blue"].used) == (98, 0)


def test_an_attacker_plays_over_http_to_the_last_image(serving):
    url, games = serving
    chance = torch.Generator().manual_seed(0)

    def new_clone():
        return registry.build("mlp-small", num_classes=10, image_shape=(1, 8, 8), generator=chance)

    attacker = Noise(batch=33)
    with RemoteOracle(url, "blue") as oracle:
        attacker.attack(oracle, Kit(torch.device("cpu"), chance, new_clone))
    assert games["blue"].used == 100
    assert attacker.clone(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_a_client_of_the_protocol_that_writes_lists_is_answered_in_lists(serving):
    url, _ = serving
    images = np.zeros((2, 1, 8, 8))
    asked = {"inputs": [{"name": "images", "datatype": "FP32", "shape": [2, 1, 8, 8],
                         "data": images.flatten().tolist()}]}  # fmt: skip
    headers = {"Authorization": "Bearer red"}
    answer = httpx.post(f"{url}/v2/models/victim/infer", json=asked, headers=headers).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["posteriors"]["shape"] == [2, 10]
    assert sum(outputs["posteriors"]["data"]) == pytest.approx(2, abs=1e-5)
    assert outputs["remaining"]["data"] == [98]


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"headers": {}}, 401, "known API key"),
        ({"headers": {"Authorization": "Bearer re"}}, 401, "known API key"),
        ({"content": b"nonsense"}, 400, "JSON header"),
        ({"content": b'{"inputs": [{"name": "pictures", "datatype": "FP32", "shape": [0], '
                     b'"data": []}]}'}, 400, "one input, 'images'"),
        ({"content": b'{"inputs": [{"name": "images", "datatype": "INT64", "shape": [1, 1, 8, 8], '
                     b'"data": ' + json.dumps([0] * 64).encode() + b"}]}"}, 400, "float32"),
    ],
)  # fmt: skip
def test_a_bad_request_is_answered_in_one_line_and_costs_nothing(serving, request_, status, words):
    url, games = serving
    call = {"headers": {"Authorization": "Bearer red"}, **request_}
    answer = httpx.post(f"{url}/v2/models/victim/infer", **call)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert games["red"].used == 0


def test_the_oracle_says_who_is_not_there(serving):
    url, _ = serving
    with pytest.raises(ArenaError, match="refuses: expected a known API key"):
        RemoteOracle(url, "green")
    with pytest.raises(ArenaError, match="is 'arena serve' running there"):
        RemoteOracle("http://127.0.0.1:9", "red")


def test_its_public_attributes_lead_to_no_game(serving):
    url, _ = serving
    with RemoteOracle(url, "red") as oracle:
        public = [getattr(oracle, name) for name in dir(oracle) if not name.startswith("_")]
    assert not any(isinstance(value, ExtractionGame) for value in public)
