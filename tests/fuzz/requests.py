"""Mutated HTTP requests to a served victim, in process; what is refused costs nothing."""

import json
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch

from arena.http.protocol import HEADER_LENGTH, MODEL, encode
from arena.http.server import Account, create_app
from envs.defences.base import Defence, DeployedDefence
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.rounds import Countermeasure
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.types import ThreatModel
from envs.victim.victim import Victim
from tests.fuzz.mutation import damage_table, damaged_bytes, damaged_text, strange

SHAPE = (1, 8, 8)
REFUSALS = (400, 401, 403, 404, 405, 413, 415)
ADDRESS = f"/v2/models/{MODEL}/infer"


class _Still:
    """A defender that always does the same."""

    def act(self, view: object) -> Countermeasure:
        return Countermeasure()

    def learn(self, served: object) -> None:
        pass


@cache
def _served():
    """Serve an untrained network; returns a client and the game."""
    from starlette.testclient import TestClient

    generator = torch.Generator().manual_seed(0)
    network = registry.build("mlp-small", num_classes=10, image_shape=SHAPE, generator=generator)
    streams = Streams(0)
    victim = Victim(MultiExit(network, ()))
    game = ExtractionGame(
        ThreatModel(10, SHAPE, 10_000, "soft", True),
        [DeployedDefence("undefended", Defence(), victim)],
        _Still(),
        clock=make_clock("virtual", streams),
        streams=streams,
    )
    return TestClient(create_app({"key": Account("key", game)})), game


def request(random: Random, folder: Path) -> str:
    """Send one request, damaged somewhere."""
    client, game = _served()
    body, headers = random.choice((_json_body, _binary_body))(random)
    headers["Authorization"] = "Bearer key"
    if random.random() < 0.3:
        body = damaged_bytes(body, random)
    if random.random() < 0.2:
        wrong = random.choice(("-1", "9" * 5000, "", "1e3", "0", str(len(body) + 1), "x"))
        headers[HEADER_LENGTH] = wrong
    if random.random() < 0.1:
        key = damaged_text("Bearer key", random).encode("latin-1", "replace")
        headers["Authorization"] = key.replace(b"\n", b"").replace(b"\0", b"")
    address = ADDRESS if random.random() < 0.9 else f"/v2/models/{random.choice(('x', 'é', '..'))}"
    method = "POST" if random.random() < 0.9 else random.choice(("GET", "PUT", "DELETE"))
    before = game.used
    answer = client.request(method, address, content=body, headers=headers)
    if answer.status_code == 200:
        return "taken"
    assert answer.status_code in REFUSALS, (answer.status_code, answer.text[:300])
    assert game.used == before, "a refused request was charged"
    assert len(answer.text) < 1000
    return "refused"


def _images(random: Random) -> np.ndarray:
    odd = ((0, *SHAPE), SHAPE, (2, 3, 8, 8), (1, 64))
    shape = random.choice(odd) if random.random() < 0.3 else (random.randint(1, 9), *SHAPE)
    values = np.random.default_rng(random.randrange(2**32)).random(shape, dtype=np.float32)
    if random.random() < 0.1:
        values[...] = random.choice((np.nan, np.inf, -1.0, 256.0, 1e30))
    with np.errstate(invalid="ignore"):  # NaN as a whole number
        return values.astype(random.choice((np.float32,) * 6 + (np.float64, np.int64)))


def _json_body(random: Random) -> tuple[bytes, dict[str, object]]:
    images = _images(random)
    kinds = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}
    tensor = {
        "name": "images",
        "datatype": kinds[images.dtype.name],
        "shape": list(images.shape),
        "data": images.flatten().tolist(),
    }
    message = {"id": "1", "inputs": [tensor]}
    if random.random() < 0.5:
        damage_table(message, random)
    if random.random() < 0.1:
        tensor["parameters"] = {"binary_data_size": strange(random)}
    return json.dumps(message).encode(), {}


def _binary_body(random: Random) -> tuple[bytes, dict[str, object]]:
    names = random.choice((["images"],) * 6 + (["images", "more"], ["others"]))
    return encode({"id": "1"}, "inputs", {name: _images(random) for name in names})
