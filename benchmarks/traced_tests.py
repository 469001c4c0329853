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
from collections.abc import Callable, Iterator, Sequence
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

        chosen, spent = [], 0.0
        for test in sorted(tests, key=rank):
            spent += self.seconds[test]
            if chosen and spent > budget:
                break
            chosen.append(test)
        return chosen


class _Watch:
    """A plug-in of pytest that tells coverage which test runs, and times it."""

    def __init__(self, coverage: Any) -> None:
        self.coverage, self.seconds = coverage, dict[str, float]()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        start = time.process_time()
        result = yield
        self.seconds.setdefault(item.nodeid, time.process_time() - start)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.seconds[report.nodeid] = float("inf")


def load_libraries() -> None:
    """Import what children share; those that are not installed are left to the tests."""
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def trace(tree: Path, folders: Sequence[str], targets: Sequence[str], output: Path) -> Traced:
    """Run the tests under folders, one file after the other, and note what they run of targets.

    What the output has of a test file, unchanged like the targets, is taken from there.
    """
    files = [path for folder in folders for path in sorted((tree / folder).rglob("test_*.py"))]
    sources = hashlib.sha256()
    for target in targets:
        sources.update((tree / target).read_bytes())
    rows = [json.loads(line) for line in _lines(output)]
    known = {row["key"]: row for row in rows}
    seconds: dict[str, float] = {}
    lines: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        digest = sources.copy()
        digest.update(file.read_bytes())
        key, name = digest.hexdigest()[:16], str(file.relative_to(tree))
        if key not in known:
            child = start_child(
                lambda n=name, k=key: _trace_file(tree, n, k, targets, output), tree
            )
            wait(child)
            known |= {row["key"]: row for row in map(json.loads, _lines(output))}
        row = known.get(key, {"seconds": {}, "lines": {}})
        seconds |= {test: s for test, s in row["seconds"].items() if s < float("inf")}
        for target, found in row["lines"].items():
            for line, tests in found.items():
                lines[target][int(line)] += tests
    return Traced(seconds, lines)


def _trace_file(tree: Path, name: str, key: str, targets: Sequence[str], output: Path) -> int:
    from coverage import Coverage

    coverage = Coverage(
        data_file=None, config_file=False, include=[str(tree / target) for target in targets]
    )
    watch = _Watch(coverage)
    coverage.start()
    run_pytest([name], plugins=[watch])
    coverage.stop()
    data, lines = coverage.get_data(), dict[str, dict[int, list[str]]]()
    for target in targets:
        found = data.contexts_by_lineno(str(tree / target))
        tests = {line: [test for test in each if test] for line, each in found.items()}
        lines[target] = {line: each for line, each in tests.items() if each}
    row = {"key": key, "file": name, "seconds": watch.seconds, "lines": lines}
    with output.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return 0


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


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
