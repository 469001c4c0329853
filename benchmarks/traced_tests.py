"""Which tests run which lines of the methods, and how long each takes: what a mutant is tried on.

Tests run in forked children of one process that has loaded the libraries once, and of the project
nothing.
"""

import contextlib
import hashlib
import importlib
import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_LIBRARIES = (
    "torch", "torchvision", "numpy", "pandas", "scipy.stats", "sklearn.datasets", "hypothesis",
    "hypothesis.strategies", "sqlalchemy", "alembic", "pydantic", "jinja2", "gymnasium", "xdist",
    "safetensors.torch", "tomli_w", "pytest_timeout", "_hypothesis_pytestplugin", "coverage",
)  # fmt: skip


class Traced(NamedTuple):
    """What was seen of the tests.

    Attributes:
        seconds: CPU seconds of each test that passed.
        lines: the tests that run a line, by file and line.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]

    def noticing(self, file: str, line: int, budget: float) -> list[str]:
        """Return the tests that may notice a change of a line, for so many CPU seconds in all.

        Those that run the line; where it runs at import alone, those that run any of its file.
        Tests named like the file come first, then the quick ones.
        """
        known = self.lines.get(file, {})
        tests = known.get(line) or sorted({test for each in known.values() for test in each})
        tests = [test for test in tests if test in self.seconds]
        name = Path(file).stem

        def rank(test: str) -> tuple[bool, float]:
            return name not in Path(test.partition("::")[0]).stem, self.seconds[test]

        chosen: list[str] = []
        spent = 0.0
        for test in sorted(tests, key=rank):
            spent += self.seconds[test]
            if chosen and spent > budget:
                break
            chosen.append(test)
        return chosen


class _Watch:
    """A plug-in of pytest that tells coverage which test runs, times it, and writes a row a file.

    Args:
        tree: where tests and targets lie.
        keys: of the rows, by test file.
        targets: files whose lines count.
        output: takes the rows.
    """

    def __init__(
        self, tree: Path, keys: Mapping[str, str], targets: Sequence[str], output: Path
    ) -> None:
        from coverage import Coverage

        self.tree, self.keys, self.targets, self.output = tree, keys, targets, output
        self.coverage = Coverage(
            data_file=None, config_file=False, include=[str(tree / target) for target in targets]
        )
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Any:
        self.coverage.switch_context(item.nodeid)
        start = time.process_time()
        result = yield
        self.seconds.setdefault(item.nodeid, time.process_time() - start)
        if nextitem is None or nextitem.path != item.path:
            self._write(str(item.path.relative_to(self.tree)))
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.seconds[report.nodeid] = float("inf")

    def _write(self, file: str) -> None:
        data, lines = self.coverage.get_data(), dict[str, dict[int, list[str]]]()
        for target in self.targets:
            found = data.contexts_by_lineno(str(self.tree / target))
            tests = {line: list(self.seconds.keys() & each) for line, each in found.items()}
            lines[target] = {line: sorted(each) for line, each in tests.items() if each}
        row = {"key": self.keys[file], "file": file, "seconds": self.seconds, "lines": lines}
        with self.output.open("a") as rows:
            rows.write(json.dumps(row) + "\n")
        self.seconds = {}


def load_libraries() -> None:
    """Import what children share; those that are not installed are left to the tests."""
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def trace(tree: Path, folders: Sequence[str], targets: Sequence[str], output: Path) -> Traced:
    """Run the tests under folders and note which lines of the targets they run.

    What the output has of a test file, unchanged like the targets, is taken from there.
    """
    sources = hashlib.sha256()
    for target in targets:
        sources.update((tree / target).read_bytes())
    keys: dict[str, str] = {}
    for path in (path for each in folders for path in sorted((tree / each).rglob("test_*.py"))):
        digest = sources.copy()
        digest.update(path.read_bytes())
        keys[str(path.relative_to(tree))] = digest.hexdigest()[:16]
    known = {row["key"] for row in _rows(output)}
    if missing := {file: key for file, key in keys.items() if key not in known}:
        status = wait(start_child(lambda: _trace_files(tree, missing, targets, output), tree))
        assert status in (0, pytest.ExitCode.TESTS_FAILED), "the tests do not collect"
    seconds: dict[str, float] = {}
    lines: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in _rows(output):
        if keys.get(row["file"]) != row["key"]:
            continue
        seconds |= {test: s for test, s in row["seconds"].items() if s < float("inf")}
        for target, found in row["lines"].items():
            for line, tests in found.items():
                lines[target][int(line)] += tests
    return Traced(seconds, lines)


def _trace_files(tree: Path, keys: Mapping[str, str], targets: Sequence[str], output: Path) -> int:
    watch = _Watch(tree, keys, targets, output)
    watch.coverage.start()
    return run_pytest(list(keys), plugins=[watch])


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a trace: `Any`, because they are JSON as it was parsed."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_pytest(tests: Sequence[str], plugins: Sequence[object] = ()) -> int:
    """Run tests in this process and return the exit status of pytest."""
    options = ["-q", "-p", "no:cacheprovider", "-o", "timeout=0"]
    ignored = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # libraries are loaded already
    return int(pytest.main([*options, *ignored, *tests], plugins=list(plugins)))


def start_child(work: Callable[[], int], tree: Path) -> int:
    """Do work in a forked child whose modules come from a tree, in silence; returns its number."""
    child = os.fork()
    if child:
        return child
    status = 255
    try:
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        silent = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(silent, number)
        status = work()
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """Wait for a child; returns its status, or minus the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def limit_cpu(seconds: int) -> None:
    """End this process once it has computed for so many seconds more."""
    limit = int(time.process_time()) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
