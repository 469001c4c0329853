"""Writes what the benchmarks measured as a page of the documentation."""

from collections.abc import Mapping
from typing import Any

from arena.report.formatting import digits

# `Any` in this file: what was read from JSON.

PREAMBLE = """\
# Benchmarks

Written by `arena bench --save FILE --markdown docs/benchmarks.md`; `arena bench --from FILE
--markdown docs/benchmarks.md` writes it anew from what was measured. Runs are interleaved
(A B A B), ratios are taken within a round, and the value is their median, with the quartiles in
brackets.

"""


def markdown(results: Mapping[str, Any]) -> str:
    """Return the page for the results of `arena.bench.suite.run`."""
    machine, versions = results["machine"], results["versions"]
    circumstances = [
        f"Measured {results['at']} at commit {(results['git_commit'] or 'unknown')[:12]}"
        f"{' with changes' if results['git_changed'] else ''}: {machine['processor']} "
        f"({machine['capability']}), {machine['cores']} cores, {machine['threads']} thread(s), "
        f"load {machine['load']} at the end; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        "Times are of the process on its processor, not of the wall clock."
        if results["clock"] == "cpu"
        else "",
        "A quick run: it shows that the benchmarks work, and nothing else."
        if results["quick"]
        else "",
    ]
    parts = [PREAMBLE + "\n\n".join(text for text in circumstances if text)]
    for group in dict.fromkeys(line["group"] for line in results["lines"]):
        lines = [line for line in results["lines"] if line["group"] == group]
        parts.append(f"## {group.capitalize()}\n\n{_table(lines)}")
    if results["failed"]:
        reasons = "\n".join(f"- {name}: {why}" for name, why in results["failed"].items())
        parts.append(f"## Not measured\n\n{reasons}")
    return "\n\n".join(parts) + "\n"


def _table(lines: list[Mapping[str, Any]]) -> str:
    head = "| what | value | target | holds | conditions |\n| --- | --- | --- | --- | --- |"
    return "\n".join([head, *(_row(line) for line in lines)])


def _row(line: Mapping[str, Any]) -> str:
    cells = (line["name"], value(line), target(line), verdict(line), line["note"])
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def value(line: Mapping[str, Any]) -> str:
    """Word a value with its spread: "0.971 x (0.965 to 0.978)"."""
    text = f"{digits(line['value'])} {line['unit']}"
    if line["low"] is not None and line["high"] != line["low"]:
        text += f" ({digits(line['low'])} to {digits(line['high'])})"
    return text


def target(line: Mapping[str, Any]) -> str:
    """Word a bound: "at least 0.95"."""
    if line["target"] is None:
        return ""
    return f"{'at least' if line['at_least'] else 'at most'} {digits(line['target'])}"


def verdict(line: Mapping[str, Any]) -> str:
    """Say whether the bound was kept."""
    return {True: "yes", False: "no", None: ""}[line["holds"]]
