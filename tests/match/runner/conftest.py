"""What tests of the runner share: scenarios, players of a test's own, and broken-off games."""

import pytest

from arena.log.store import Log
from arena.runner import episode as episodes
from arena.runner.match import play
from arena.runner.progress import Watcher
from arena.runner.saves.schedule import Saving
from arena.runner.saves.store import SaveStore
from arena.scenario import load


class Listening(Watcher):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


@pytest.fixture
def watcher():
    """A watcher of a match that keeps its lines."""
    return Listening()


@pytest.fixture(scope="session")
def always():
    """Save at every safe point."""
    return Saving(seconds=1e-9, share=1e9)


@pytest.fixture
def scenario(tiny_file):
    """Load the tiny scenario with changed tables, and overrides as the command line takes them."""

    def make(changes=None, **overrides):
        path = tiny_file(**(changes or {}))
        return load(str(path), [f"{key}={value}" for key, value in overrides.items()])

    return make


@pytest.fixture
def with_attacker(tmp_path, scenario, request):
    """Make the scenario of an attacker whose class the test's own module defines."""

    def make(player, **overrides):
        path, own = tmp_path / "player.py", request.module.__file__
        path.write_text(
            "import importlib.util\n"
            f"spec = importlib.util.spec_from_file_location('of_tests', {own!r})\n"
            "module = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(module)\n"
            f"{player} = module.{player}\n"
        )
        return scenario({"attackers": [{"use": f"{path}:{player}"}]}, **overrides)

    return make


@pytest.fixture
def break_off(monkeypatch):
    """Let the game end as Ctrl-C ends it, in the round that passes so many queries."""
    real = episodes.GameOracle

    def at(queries):
        class Breaking(real):
            __slots__ = ()

            def query(self, images):
                if self.threat.budget - self.remaining + len(images) > queries:
                    raise KeyboardInterrupt
                return super().query(images)

        monkeypatch.setattr(episodes, "GameOracle", Breaking if queries else real)

    return at


@pytest.fixture
def break_game(tmp_path, break_off, always):
    """Play a scenario's one episode into a log, where it is saved and broken off."""
    log = Log.open(tmp_path / "a.db")

    def broken_game(wanted):
        break_off(600)
        (row,) = play(wanted, log=log, saving=always).episodes
        break_off(None)
        return log, row, SaveStore(log.where)

    yield broken_game
    log.close()


@pytest.fixture
def broken(break_game, scenario):
    """A log with one episode of a built-in attacker that was saved and broken off."""
    return break_game(scenario())
