"""Classes of modules that are found on the path are played isolated, wherever they lie."""

import importlib
import sys

import pytest

from arena.isolation.describing import Said, described
from arena.registry.classes import register

PLAYER = "from agents.attackers.noise import Noise\n\nclass Probe(Noise):\n    pass\n"
PLACES = {
    "a module of one file": ("lone_player", "lone_player.py"),
    "one in a folder of its name": ("same_player", "same_player.py"),
    "a package": ("packed_player", "packed_player/__init__.py"),
    "a module of a package": ("inner_player.inside", "inner_player/inside.py"),
    "a package without __init__": ("bare_player.inside", "bare_player/inside.py"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_class_of_a_module_is_found_in_a_process_of_its_own(tmp_path, monkeypatch, place):
    name, file = PLACES[place]
    folder = tmp_path / ("same_player" if name == "same_player" else "some")
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_text(PLAYER)
    if name.startswith("inner"):
        (folder / file).with_name("__init__.py").write_text("")
    monkeypatch.syspath_prepend(folder)
    try:
        use = register(importlib.import_module(name).Probe)[0]
        assert described(Said(use, {}), [], name="probe")["use"] == use
    finally:
        for one in [one for one in sys.modules if one.partition(".")[0] == name.partition(".")[0]]:
            del sys.modules[one]
