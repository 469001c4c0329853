"""Writes tables into pages."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from arena.analysis.intervals import Interval

ROOT = Path(__file__).parents[1]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(found: Interval) -> str:
    """Write a mean and its interval in percent; the mean alone where one seed has none."""
    if found.low is None or found.high is None:
        return f"{100 * found.mean:.1f}"
    return f"{100 * found.mean:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def write_page(text: str, page: Path, *, mark: str) -> None:
    """Put tables between two marks of a page.

    Raises:
        ValueError: the page has not the two marks.
    """
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    old = page.read_text(encoding="utf-8")
    if old.count(begin) != 1 or old.count(end) != 1:
        raise ValueError(f"expected one '{begin}' and one '{end}' in {page}")
    head, tail = old.split(begin)[0], old.split(end)[1]
    page.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
