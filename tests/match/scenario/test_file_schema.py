"""The JSON Schema of scenario files: it takes what people write and refuses slips of the pen."""

import copy
import tomllib

import jsonschema
import pytest
import tomli_w

from arena.scenario import load, shipped
from arena.scenario.file_schema import file_schema
from envs.errors import ScenarioError

WHOLE = """\
version = 1
data = "digits"
victim = "conv-small"
clone = { use = "mlp-small" }
[threat]
budget = 1e3
[threat.pool]
use = "strokes"
[[attackers]]
use = "noise"
wrappers = ["averaging"]
[[defenders]]
[[defenders]]
name = "randp"
defence = "randp"
params = { epsilon = 0.1 }
[[defenders]]
defence = "randp"
sweep = { epsilon = [0.2, 0.3] }
"""
PARTIAL = """\
extends = "quickstart"
[threat]
normalisation = "victim"
[victim]
seed = 3
"""


@pytest.fixture(scope="module")
def validator():
    schema = file_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_shipped_file_fits(validator):
    files = shipped()
    assert len(files) > 70
    faults = {
        name: error.message
        for name, path in files.items()
        for error in validator.iter_errors(tomllib.loads(path.read_text()))
    }
    assert faults == {}


@pytest.mark.parametrize("text", [WHOLE, PARTIAL])
def test_what_is_left_out_or_inherited_fits(validator, tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    validator.validate(tomllib.loads(text))
    load(path).check()


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        # misspelt keys, at every depth
        (WHOLE, "seed", [0]),
        (WHOLE, "threat.budgets", 10),
        (WHOLE, "victim", {"use": "conv-small", "recipes": {}}),
        (WHOLE, "threat.pool.paramss", {}),
        (WHOLE, "attackers.0.param", {}),
        (WHOLE, "defenders.1.defense", "randp"),
        (PARTIAL, "extend", "quickstart"),
        (PARTIAL, "threat.label", "hard"),
        # wrong types and values
        (WHOLE, "seeds", 0),
        (WHOLE, "threat.budget", "1000"),
        (WHOLE, "threat.budget", 0),
        (WHOLE, "attackers", {"use": "noise"}),
        (WHOLE, "attackers.0.wrappers", [1]),
        (WHOLE, "defenders.2.sweep", {"epsilon": 0.2}),
        (WHOLE, "defenders.2.sweep", {"epsilon": []}),
        (WHOLE, "defenders.2.sweep", {"epsilon": [0.2], "seed": [1]}),
        (WHOLE, "defenders.1.defence", ["randp"]),
        (PARTIAL, "threat.labels", "harsh"),
        (PARTIAL, "extends", 3),
        # what nothing supplies
        (WHOLE, "threat", {"labels": "soft"}),
        (WHOLE, "clone", {"params": {}}),
        (WHOLE, "threat.pool", {"params": {}}),
        (WHOLE, "attackers.0", {"params": {}}),
        (PARTIAL, "attackers", [{"params": {}}]),
    ],
)
def test_a_slip_is_refused_by_schema_and_by_reader(validator, tmp_path, text, path, value):
    table = copy.deepcopy(tomllib.loads(text))
    *steps, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    below = table
    for step in steps:
        below = below[step]
    below[last] = value
    assert not validator.is_valid(table)
    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps(table))
    with pytest.raises(ScenarioError):
        load(file).check()


@pytest.mark.parametrize("key", ["version", "data", "victim", "clone", "threat", "attackers"])
def test_a_file_that_extends_nothing_needs_everything(validator, key):
    table = tomllib.loads(WHOLE)
    del table[key]
    assert not validator.is_valid(table)
    assert validator.is_valid({**table, "extends": "quickstart"})
