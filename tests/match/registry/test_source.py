"""What identifies a class that no file of its own identifies."""

import linecache
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from types import ModuleType

import pytest

from arena.registry.source import SourceUnknown, source_digest

CELL = """
RATE = {rate}
SHADES = [0.1, {{"dark": 0.9}}]

def helper(x):
    return x * RATE

class Base:
    def step(self):
        return {step}

class Own(Base):
    size = 3

    @property
    def shade(self):
        return SHADES

    @staticmethod
    def grow(x, by=1):
        return helper(x) + by

    def attack(self):
        return super().step() + self.grow(self.size)
"""


def cell(number, *, name="notebook", **values):
    """Run a cell as a notebook does: its text lies in the line cache, its module has no file."""
    text = CELL.format(**({"rate": 2, "step": 1} | values))
    file = f"<cell-{number}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space = ModuleType(name).__dict__
    exec(compile(text, file, "exec"), space)
    return space["Own"]


def test_a_cell_run_again_is_the_same_class():
    assert source_digest(cell(1)) == source_digest(cell(2))


def test_a_class_that_was_used_is_still_the_same_class():
    own = cell(1)
    before = source_digest(own)
    for _ in range(100):
        own().attack()  # Python specialises code that runs often
    assert source_digest(own) == before


@pytest.mark.parametrize("edit", [{"rate": 3}, {"step": 2}])
def test_an_edited_base_or_value_makes_another_class(edit):
    assert source_digest(cell(1)) != source_digest(cell(2, **edit))


def test_a_value_changed_while_running_makes_another_class():
    own = cell(1)
    before = source_digest(own)
    own.attack.__globals__["SHADES"].append(1)
    assert source_digest(own) != before


def test_a_method_given_to_a_class_later_counts():
    own = cell(1)
    before = source_digest(own)
    own.attack = own.attack.__globals__["Base"].step
    assert source_digest(own) != before


def test_a_class_that_exec_made_has_no_source():
    space = {"__name__": "nowhere"}
    exec(CELL.format(rate=2, step=1), space)
    with pytest.raises(SourceUnknown, match="cannot be read"):
        source_digest(space["Own"])


def test_a_base_that_exec_made_has_no_source():
    space = {}
    exec("class Hidden:\n    def step(self): return 1", space)
    with pytest.raises(SourceUnknown, match="cannot be read"):
        source_digest(type("Shown", (space["Hidden"],), {}))


def test_a_module_of_the_users_own_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def digest(text):
        (tmp_path / "tools.py").write_text(text)
        tools = ModuleType("tools")
        tools.__file__ = str(tmp_path / "tools.py")
        exec(compile(text, tools.__file__, "exec"), tools.__dict__)
        own = cell(1)
        own.attack.__globals__["helper"] = tools
        return source_digest(own)

    one = "def draw():\n    return 1\n"
    assert digest(one) == digest(one) != digest(one.replace("1", "20"))


LOCK = threading.Lock()
LOOP: list = []
LOOP.append(LOOP)


class Locked:
    def attack(self):
        return LOCK


class Looped:
    def attack(self):
        return LOOP


@dataclass
class Data:
    size: int = 3

    def attack(self):
        return self.size


def test_what_no_source_shows_is_told():
    with pytest.raises(SourceUnknown, match="'LOCK', whose value no source shows"):
        source_digest(Locked)
    with pytest.raises(SourceUnknown, match="holds itself"):
        source_digest(Looped)


def test_a_dataclass_has_a_source():
    assert len(source_digest(Data)) == 16


WAYS = {
    "a cached function": "@functools.lru_cache\ndef use(x):\n    return x + 1",
    "a bound argument": "def add(y, x):\n    return x + 1\nuse = functools.partial(add, 2)",
    "a method of an object": (
        "class Tool:\n    def run(self, x):\n        return x + 1\nuse = Tool().run"
    ),
    "a function that an object holds": (
        "def add(x):\n    return x + 1\nclass Tool:\n    def __init__(self, own): self.own = own\n"
        "    def __call__(self, x): return self.own(x)\nuse = Tool(add)"
    ),
    "a set of functions": (
        "def add(x):\n    return x + 1\nevery = {add}\n"
        "def use(x):\n    return [one(x) for one in every]"
    ),
    "a decorator": (
        "def more(own):\n    @functools.wraps(own)\n    def wrapper(x):\n"
        "        return own(x) + 1\n    return wrapper\n@more\ndef use(x):\n    return x"
    ),
    "a decorator of a library": (
        "@contextlib.contextmanager\ndef use(x):\n    yield x + 1"
    ),
}  # fmt: skip


def run_cell(text):
    file = f"<cell-{hash(text)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space = ModuleType("notebook").__dict__
    exec(compile(text, file, "exec"), space)
    return space["Own"]


def assert_one_more_counts(text):
    """Assert that the digest of its class tells "+ 1" from "+ 20", and nothing else."""
    assert source_digest(run_cell(text)) == source_digest(run_cell(text))
    assert source_digest(run_cell(text)) != source_digest(run_cell(text.replace("+ 1", "+ 20")))


@pytest.mark.parametrize("way", WAYS)
def test_what_a_class_uses_counts_in_whatever_it_is_wrapped(way):
    text = (
        f"import contextlib, functools\n{WAYS[way]}\n"
        "class Own:\n    def attack(self):\n        return use(3)\n"
    )
    assert_one_more_counts(text)


def test_the_decorators_of_its_methods_count():
    text = (
        "import functools\n"
        "def more(own):\n    @functools.wraps(own)\n    def wrapper(self):\n"
        "        return own(self) + 1\n    return wrapper\n"
        "class Own:\n    @more\n    def attack(self):\n        return 3\n"
    )
    assert_one_more_counts(text)


def test_a_set_of_texts_is_the_same_in_every_process():
    text = (
        "from arena.registry.source import source_digest\nimport linecache\n"
        'text = \'NAMES = {"a", "b", "c"}\\nclass Own:\\n    def attack(self): return NAMES\\n\'\n'
        "linecache.cache['<c>'] = (len(text), None, text.splitlines(True), '<c>')\n"
        "exec(compile(text, '<c>', 'exec'))\nprint(source_digest(Own))\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", text], check=True, capture_output=True, text=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in "123"
    }  # fmt: skip
    assert len(found) == 1


def test_what_claims_to_wrap_without_end_ends():
    text = (
        "from unittest import mock\n"
        "class Odd:\n    def __getattr__(self, name): raise KeyError(name)\n"
        "odd = Odd()\n"
        "class Own:\n    asked = mock.call\n    def attack(self):\n        return odd\n"
    )
    assert source_digest(run_cell(text)) == source_digest(run_cell(text))
