"""The kinds of cases, and how one is tried. A case is its seed and number, whatever was before."""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.files import override, scenario
from tests.fuzz.logs import log
from tests.fuzz.requests import request

Try = Callable[[Random, Path], str]
"""Draws a case and tries it; answers "taken" or "refused", and raises where the program fell."""

KINDS: Mapping[str, tuple[Try, int]] = {
    "scenario": (scenario, 1000),
    "set": (override, 2000),
    "log": (log, 500),
    "request": (request, 500),
}
"""How each kind is tried, and how many make the full set."""


@dataclass
class Tally:
    """What came of a kind's cases.

    Attributes:
        verdicts: how many were "taken", "refused" and "fell".
        fallen: the number of each case that fell, and why.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    fallen: list[tuple[int, Exception]] = field(default_factory=list)


def tried(kind: str, numbers: range, *, seed: int = 0) -> Tally:
    """Try the cases of these numbers."""
    attempt, _ = KINDS[kind]
    tally = Tally()
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            try:
                verdict = attempt(Random(f"{kind}/{seed}/{number}"), Path(folder))
            except Exception as error:
                verdict = "fell"
                tally.fallen.append((number, error))
        tally.verdicts[verdict] += 1
    return tally
