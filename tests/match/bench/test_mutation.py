"""Mutants replace the code of functions in place, and are tried on the tests that run them."""

import gc
import importlib.util
import sys

import pytest

from benchmarks.changed_code import change_functions, lies_in_functions
from benchmarks.mutation import ROOT, mutants
from benchmarks.traced_tests import Traced

TEXT = b"""
SIGNS = [sign * 2 for sign in (1, 2)]

class Steps:
    size = 1 + 1

    def up(self, value, by=1):
        return [(lambda one: one + by)(value) for _ in range(1)][0]

step = Steps()
"""


@pytest.fixture
def steps(tmp_path, monkeypatch):
    path = tmp_path / "steps_module.py"
    path.write_bytes(TEXT)
    spec = importlib.util.spec_from_file_location("steps_module", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "steps_module", module)
    spec.loader.exec_module(module)
    return path, module


def test_a_function_that_was_imported_already_computes_as_changed(steps):
    path, module = steps
    up = module.step.up
    assert up(5) == 6
    changed = TEXT.replace(b"one + by", b"one - by")
    assert lies_in_functions(path, changed)
    gc.freeze()  # as all tests do once they are collected
    change_functions(path, changed)
    gc.freeze()
    assert (up(5), up(5, by=2)) == (4, 3)


@pytest.mark.parametrize(
    ("old", "new"), [(b"1 + 1", b"1 - 1"), (b"by=1", b"by=0"), (b"sign * 2", b"sign / 2")]
)
def test_what_runs_at_import_is_told_apart(steps, old, new):
    assert not lies_in_functions(steps[0], TEXT.replace(old, new))


def test_a_change_is_tried_on_the_tests_that_run_its_line_the_likely_and_quick_ones_first():
    traced = Traced(
        {"t/test_a.py::slow": 9.0, "t/test_b.py::x": 2.0, "t/test_b.py::y": 1.0,
         "t/test_a.py::quick": 0.5},
        {"src/a.py": {3: ["t/test_b.py::x", "t/test_b.py::y", "t/test_a.py::slow"],
                      4: ["t/test_a.py::quick", "t/test_b.py::failed"]}},
    )  # fmt: skip
    x, y, slow = "t/test_b.py::x", "t/test_b.py::y", "t/test_a.py::slow"
    assert traced.noticing("src/a.py", 3, 100) == [slow, y, x]
    assert traced.noticing("src/a.py", 3, 11) == [slow, y]
    assert traced.noticing("src/a.py", 3, 1) == [slow]
    # a line that runs at import alone
    assert traced.noticing("src/a.py", 1, 100) == ["t/test_a.py::quick", slow, y, x]
    assert traced.noticing("src/b.py", 1, 100) == []


def test_every_mutant_is_another_program():
    file = "envs/exits/rules.py"
    lines = (ROOT / file).read_bytes().split(b"\n")
    found = list(mutants(file))
    assert len(found) > 30
    for one in found:
        assert lines[one.line - 1][one.start : one.end].decode() == one.old
        assert one.new != one.old
