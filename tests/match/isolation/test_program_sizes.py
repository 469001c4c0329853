"""The sizes of a handed-over program are found without memory, whatever it says of devices."""

import json

import pytest
import torch

from arena.isolation import program
from arena.isolation.program import Program
from envs.errors import PlayerError
from tests.match.isolation.conftest import Makes

CPU, WANTED = torch.device("cpu"), 1000
NAMED = {"no device": {}, "null": {"device": None}, "its own": {"device": {"device": None}},
         "a text": {"device": "cpu"}}  # fmt: skip
W = {"value": "weight"}
MAKERS = {
    "ones": ["aten.ones.default", [[WANTED]]],
    "full": ["aten.full.default", [[WANTED], 2.0]],
    "arange": ["aten.arange.default", [WANTED]],
    "zeros_like": ["aten.zeros_like.default", [{"value": "wide"}]],
    "new_ones": ["aten.new_ones.default", [W, [WANTED]]],
    "_to_copy": ["aten._to_copy.default", [{"value": "wide"}]],
}


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("maker", MAKERS)
def test_a_program_that_is_too_large_takes_no_memory(monkeypatch, maker, named):
    monkeypatch.setattr(program, "_MOST_VALUES", WANTED - 1)
    target, arguments = MAKERS[maker]
    steps = [
        ["wide", "aten.expand.default", [W, [WANTED]], {}],
        ["big", target, arguments, NAMED[named]],
    ]
    made = steps if maker in ("zeros_like", "_to_copy") else steps[1:]
    text = json.dumps({"steps": made, "output": "big"}).encode()
    clone = Program(text, {"weight": torch.ones(1)}, CPU)
    with Makes() as seen, pytest.raises(PlayerError, match="needs room for more than"):
        clone(torch.zeros(1, 1, 2, 2))
    assert seen.largest < WANTED
    monkeypatch.setattr(program, "_MOST_VALUES", 3 * WANTED)
    assert clone(torch.zeros(1, 1, 2, 2)).shape == (WANTED,)
