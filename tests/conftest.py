"""What every test shares: one thread, a cache of its own, and one small scenario."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from arena.scenario.reading import merge

torch.set_num_threads(1)

# a shell that runs the tests in the background ignores signals, which a run then ignores as well
for _name, _handler in (
    ("SIGINT", signal.default_int_handler), ("SIGTERM", signal.SIG_DFL), ("SIGHUP", signal.SIG_DFL)
):  # fmt: skip
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

TINY = {
    "version": 1,
    "name": "tiny",
    "data": "digits",
    "seeds": [0],
    "checkpoints": 4,
    "victim": {"use": "conv-small", "recipe": {"epochs": 1}},
    "clone": {"use": "mlp-small"},
    "threat": {"budget": 1000},
    "traffic": {"benign": 0.25},
    "attackers": [{"use": "noise"}],
    "defenders": [{"name": "undefended"}],
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `--golden write` store the rows that `tests/golden` compares with."""
    parser.addoption("--golden", choices=("check", "write"), default="check")


def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of the garbage collector's rounds."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the tests' victims out of the user's cache, shared by all processes of one run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a folder of its own in the run's
        folder = folder.parent
    folder = folder / "cache"
    folder.mkdir(exist_ok=True)
    patch = pytest.MonkeyPatch()
    patch.setenv("ARENA_CACHE", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="session")
def tiny() -> Callable[..., dict[str, Any]]:
    """Make the table of a scenario that plays in a second; keywords replace its keys.

    Tables are merged, everything else is replaced: `tiny(threat={"labels": "hard"}, seeds=[1])`.
    """
    return lambda **changes: merge(TINY, changes)


@pytest.fixture
def tiny_file(tiny: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Write that scenario, changed by keywords, to `tiny.toml` in the test's folder."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "tiny.toml"
        path.write_text(tomli_w.dumps(tiny(**changes)))
        return path

    return write
