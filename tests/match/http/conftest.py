"""A served victim that every test of this folder may ask."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest

from envs.defences.base import Defence
from envs.game.game_factory import GameFactory, GameSpec
from envs.game.rounds import Countermeasure
from envs.seeding import Streams
from envs.training.recipes import Recipe


class AlwaysSame:
    """A defender that does the same for every request."""

    def act(self, view):
        return Countermeasure()

    def learn(self, served):
        pass


@pytest.fixture(scope="package")
def table():
    recipe = Recipe(epochs=2, batch=64, learning_rate=0.05)
    spec = GameSpec(victim="mlp-small", recipe=recipe, budget=100, latency="virtual")
    return GameFactory(spec, [Defence()])


@contextmanager
def running(app):
    """Run a web application in a thread; gives its address."""
    uvicorn = pytest.importorskip("uvicorn")
    from arena.http.arrival import server_config

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(server_config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture
def serving(table):
    """A running server with two keys; gives its address and the games by key."""
    pytest.importorskip("fastapi")
    from arena.http.server import Account, create_app

    games = {key: table.new_game(AlwaysSame(), Streams(0)) for key in ("red", "blue")}
    with running(create_app({key: Account(key, game) for key, game in games.items()})) as url:
        yield url, games
