"""Changes operators of the methods, one at a time, and counts the changes that no test notices.

    python -m benchmarks.mutation --sample 200 --seed 0 -o mutants.jsonl

Each mutant is one changed operator (+ and -, * and /, < and <=, == and !=, min and max, a dropped
sign, 0 and 1). The tests that run its line are tried on it until the first failure, the quick ones
and those named like its file first, up to some CPU seconds. Which tests run which lines is traced
once, with the library coverage, and kept in a file; test files that changed since are traced anew.
A line of the output is one mutant; run again with the same arguments, the command goes on behind
the last line. Survivors are printed at the end.
"""

import argparse
import ast
import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.changed_code import change_functions, change_on_import, lies_in_functions
from benchmarks.traced_tests import (
    Traced,
    limit_cpu,
    load_libraries,
    run_pytest,
    start_child,
    trace,
    wait,
)

ROOT = Path(__file__).resolve().parents[1]
TARGETS = (
    "agents/attackers", "agents/defenders", "agents/learning", "envs/defences", "envs/training",
    "envs/exits", "envs/game", "arena/evaluation", "arena/analysis/intervals.py",
    "arena/analysis/paired_tests.py",
)  # fmt: skip
TESTS = (
    "tests/players/attackers", "tests/players/defenders", "tests/players/learning",
    "tests/world/defences", "tests/world/training", "tests/world/exits", "tests/world/game",
    "tests/match/evaluation", "tests/match/analysis",
)  # fmt: skip

_BINARY = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
_COMPARED = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="
}  # fmt: skip
_METHODS = {
    "min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "amin": "amax",
    "amax": "amin", "clamp_min": "clamp_max", "clamp_max": "clamp_min",
}  # fmt: skip


class Mutant(NamedTuple):
    """One change: lines are counted from 1, columns from 0, in bytes of the line."""

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str


def mutants(file: str) -> Iterator[Mutant]:
    """Yield every change that a file admits, in the order of its lines."""
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                yield from _between(file, lines, left, right, _BINARY[type(op)])
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARED:
                yield from _between(file, lines, left, right, _COMPARED[type(op)])
            case ast.UnaryOp(op=ast.USub(), operand=operand) if not isinstance(
                operand, ast.Constant
            ):
                yield Mutant(file, node.lineno, node.col_offset, node.col_offset + 1, "-", "+")
            case ast.Constant(value=bool()):
                continue
            case ast.Constant(value=0 | 1 as value) if isinstance(value, int):
                where = node.lineno, node.col_offset, node.end_col_offset or 0
                yield Mutant(file, *where, str(value), str(1 - value))
            case ast.Attribute(attr=name) if name in _METHODS and node.end_col_offset:
                end = node.end_col_offset
                yield Mutant(file, node.end_lineno or 0, end - len(name), end, name, _METHODS[name])


def _between(
    file: str, lines: list[str], left: ast.expr, right: ast.expr, new: str
) -> Iterator[Mutant]:
    """Find the operator between two operands that end and begin on one line."""
    if left.end_lineno != right.lineno or left.end_col_offset is None:
        return
    gap = lines[right.lineno - 1].encode()[left.end_col_offset : right.col_offset].decode()
    found = re.search(r"[-+*/<>=!]+", gap)
    if found:
        start = left.end_col_offset + found.start()
        yield Mutant(file, right.lineno, start, start + len(found[0]), found[0], new)


_FAILED = int(pytest.ExitCode.TESTS_FAILED)
_UNUSABLE = int(pytest.ExitCode.USAGE_ERROR)


class Trial(NamedTuple):
    """A mutant, the text of its module, and the tests that may notice it."""

    mutant: Mutant
    text: bytes
    tests: list[str]
    seconds: int
    """Of CPU, after which a loop that no longer ends is noticed too."""


def trial(mutant: Mutant, tree: Path, traced: Traced, budget: float) -> Trial:
    """Prepare a mutant; without tests where none runs its line."""
    tests = traced.noticing(mutant.file, mutant.line, budget)
    lines = (tree / mutant.file).read_bytes().split(b"\n")
    line = lines[mutant.line - 1]
    assert line[mutant.start : mutant.end].decode() == mutant.old, mutant
    lines[mutant.line - 1] = line[: mutant.start] + mutant.new.encode() + line[mutant.end :]
    limit = int(60 + 3 * sum(traced.seconds[test] for test in tests))
    return Trial(mutant, b"\n".join(lines), tests, limit)


class _Trials:
    """A plug-in of pytest that tries mutants in forks, once all tests are collected."""

    def __init__(self, trials: list[Trial], tree: Path, tell: Callable[[Mutant, str], None]):
        self.trials, self.tree, self.tell = trials, tree, tell

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        items = {item.nodeid: item for item in session.items}
        for one in self.trials:
            tests = [items[test] for test in one.tests]
            child = os.fork()
            if child == 0:
                change_functions(self.tree / one.mutant.file, one.text)
                limit_cpu(one.seconds)
                session.items[:] = tests
                try:
                    yield
                finally:
                    os._exit(_FAILED if session.testsfailed else 0)
            self.tell(one.mutant, _result(child))
        session.items.clear()
        return (yield)


def run(trials: list[Trial], tree: Path, tell: Callable[[Mutant, str], None]) -> None:
    """Run the tests of mutants: "killed", "survived", or "untested" where no test runs the line."""
    inside = []
    for one in trials:
        path = tree / one.mutant.file
        if not one.tests:
            tell(one.mutant, "untested")
        elif lies_in_functions(path, one.text):
            inside.append(one)
        else:
            child = start_child(partial(_run_imported, one, path), tree)
            tell(one.mutant, _result(child))
    if inside:
        tests = sorted({test.partition("::")[0] for one in inside for test in one.tests})
        plugin = _Trials(inside, tree, tell)
        child = start_child(lambda: run_pytest(["-x", *tests], [plugin]), tree)
        assert wait(child) in (0, pytest.ExitCode.NO_TESTS_COLLECTED), "the tests do not collect"


def _result(child: int) -> str:
    status = wait(child)
    # pytest calls it wrong usage where what a conftest.py imports fails
    tried = status in (pytest.ExitCode.OK, _FAILED, pytest.ExitCode.INTERRUPTED, _UNUSABLE)
    assert tried or status < 0, "the change could not be tried"
    return "survived" if status == 0 else "killed"


def _run_imported(one: Trial, path: Path) -> int:
    limit_cpu(one.seconds)
    change_on_import(path, one.text)
    return run_pytest(["-x", *one.tests])


def main() -> None:
    """Draw a sample of mutants, run their tests, and print the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=200, help="mutants to draw; 0 takes all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--seconds", type=float, default=40, help="of CPU for tests of a mutant")
    parser.add_argument("--only", default="", help="files whose path begins so")
    parser.add_argument("--trace", type=Path, default=Path("traced_tests.jsonl"),
                        help="which tests run which lines; made where it is missing")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path("mutants.jsonl"))
    options = parser.parse_args()
    files = sorted(
        str(path.relative_to(ROOT))
        for target in TARGETS
        for path in ((ROOT / target).rglob("*.py") if (ROOT / target).is_dir() else [ROOT / target])
    )
    everything = [mutant for file in files for mutant in mutants(file)]
    size = min(options.sample or len(everything), len(everything))
    drawn = random.Random(options.seed).sample(everything, size)
    drawn = [mutant for mutant in drawn if mutant.file.startswith(options.only)]
    results = _read(options.output)

    def tell(mutant: Mutant, result: str) -> None:
        with options.output.open("a") as file:
            file.write(json.dumps({"mutant": mutant, "result": result}) + "\n")

    load_libraries()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*cache")
        )
        traced = trace(tree, TESTS, files, options.trace.absolute())
        waiting = [one for one in drawn if one not in results]
        run([trial(one, tree, traced, options.seconds) for one in waiting], tree, tell)
    results = _read(options.output)
    survivors = [mutant for mutant in drawn if results[mutant] != "killed"]
    killed = len(drawn) - len(survivors)
    print(f"{killed} of {len(drawn)} killed ({killed / max(1, len(drawn)):.1%}), "
          f"of {len(everything)} mutants in {len(files)} files; seed {options.seed}")  # fmt: skip
    for mutant in survivors:
        print(f"  {_line(mutant, results[mutant])}")


def _read(output: Path) -> dict[Mutant, str]:
    known = output.read_text().splitlines() if output.exists() else []
    return {Mutant(*row["mutant"]): row["result"] for row in map(json.loads, known)}


def _line(mutant: Mutant, result: str) -> str:
    return f"{result:9} {mutant.file}:{mutant.line}:{mutant.start} {mutant.old} -> {mutant.new}"


if __name__ == "__main__":
    main()
