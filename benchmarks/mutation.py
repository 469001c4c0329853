"""Changes operators of the methods, one at a time, and counts the changes that no test notices.

    python -m benchmarks.mutation --sample 200 --seed 0 --jobs 2 -o mutants.jsonl

Each mutant is one changed operator (+ and -, * and /, < and <=, == and !=, min and max, a dropped
sign, 0 and 1) in a copy of the tree. The tests that import its module, directly or by the name of
what they play, run until the first failure. A line of the output is one mutant; run again with
the same arguments, the command goes on behind the last line. Survivors are printed at the end.
"""

import argparse
import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TARGETS = (
    "agents/attackers", "agents/learning", "envs/defences", "envs/training", "envs/exits",
    "envs/game", "arena/evaluation", "arena/analysis/intervals.py",
    "arena/analysis/paired_tests.py",
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


def noticing(file: str, sources: dict[str, str], most: int = 8) -> list[str]:
    """Return the tests that may notice a change: they name the module, or mirror its folder.

    Where there are few, those that name its importers come behind.
    """
    chosen = _naming(file, {path: text for path, text in sources.items() if "/test_" in path})
    folder = f"/{Path(file).parent.name}/test_"
    chosen += [path for path in sources if folder in path]
    if len(chosen) < 3:
        modules = {path: text for path, text in sources.items() if not path.startswith("tests")}
        chosen += [
            test for importer in _naming(file, modules) for test in noticing(importer, sources, 2)
        ]
    name = Path(file).stem
    return sorted(dict.fromkeys(chosen), key=lambda path: name not in Path(path).stem)[:most]


def _naming(file: str, sources: dict[str, str]) -> list[str]:
    """Return the files that import a module, or name what it registers, in order."""
    module = file.removesuffix(".py").replace("/", ".")
    package, _, name = module.rpartition(".")
    pattern = re.compile(
        rf"{re.escape(module)}\b|from {re.escape(package)} import[^\n]*\b{name}\b"
        rf"|[\"']{name.replace('_', '[-_]')}[\"']"
    )
    return sorted(path for path, text in sources.items() if path != file and pattern.search(text))


def run(mutant: Mutant, tree: Path, tests: list[str], seconds: int) -> str:
    """Run tests on a tree with one change, which is undone; "killed", "survived" or "untested"."""
    if not tests:
        return "untested"
    path = tree / mutant.file
    original = path.read_bytes()
    lines = original.split(b"\n")
    line = lines[mutant.line - 1]
    assert line[mutant.start : mutant.end].decode() == mutant.old, mutant
    lines[mutant.line - 1] = line[: mutant.start] + mutant.new.encode() + line[mutant.end :]
    path.write_bytes(b"\n".join(lines))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "killed"  # a loop that no longer ends is noticed
    finally:
        path.write_bytes(original)
    return "survived" if done.returncode == 0 else "killed"


def main() -> None:
    """Draw a sample of mutants, run their tests, and print the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=200, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    parser.add_argument("--seconds", type=int, default=400, help="for the tests of one mutant")
    parser.add_argument("--only", default="", help="files whose path begins so")
    parser.add_argument("-o", "--output", type=Path, default=Path("mutants.jsonl"))
    options = parser.parse_args()
    files = sorted(
        str(path.relative_to(ROOT))
        for target in TARGETS
        for path in ((ROOT / target).rglob("*.py") if (ROOT / target).is_dir() else [ROOT / target])
    )
    everything = [mutant for file in files for mutant in mutants(file)]
    drawn = random.Random(options.seed).sample(everything, min(options.sample, len(everything)))
    drawn = [mutant for mutant in drawn if mutant.file.startswith(options.only)]
    sources = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for folder in ("arena", "agents", "envs", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    known = options.output.read_text().splitlines() if options.output.exists() else []
    results = {Mutant(*row["mutant"]): row["result"] for row in map(json.loads, known)}
    waiting = [mutant for mutant in drawn if mutant not in results]

    def work(part: list[Mutant]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            shutil.copytree(
                ROOT, tree, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*cache")
            )
            for mutant in part:
                result = run(mutant, tree, noticing(mutant.file, sources), options.seconds)
                results[mutant] = result
                with options.output.open("a") as file:
                    file.write(json.dumps({"mutant": mutant, "result": result}) + "\n")
                print(f"{result:9} {mutant.file}:{mutant.line} {mutant.old} -> {mutant.new}")

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(work, [waiting[start :: options.jobs] for start in range(options.jobs)]))
    survivors = [mutant for mutant in drawn if results[mutant] != "killed"]
    killed = len(drawn) - len(survivors)
    print(f"{killed} of {len(drawn)} killed ({killed / max(1, len(drawn)):.1%}), "
          f"of {len(everything)} mutants in {len(files)} files; seed {options.seed}")  # fmt: skip
    for mutant in survivors:
        print(f"  {results[mutant]} {mutant.file}:{mutant.line} {mutant.old} -> {mutant.new}")


if __name__ == "__main__":
    main()
