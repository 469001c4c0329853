"""Whatever comes in is taken, or refused in one line; nothing falls."""

import pytest

from tests.fuzz.cases import KINDS, tried

IN_EVERY_RUN = {"scenario": 40, "set": 60, "log": 20, "request": 100}
"""About 20 seconds in all; the full set is for the slow tests."""

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_input_is_taken_or_refused(kind):
    _nothing_falls(kind, range(IN_EVERY_RUN[kind]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_the_full_set_is_taken_or_refused(kind):
    _nothing_falls(kind, range(IN_EVERY_RUN[kind], KINDS[kind][1]))


def _nothing_falls(kind, numbers):
    tally = tried(kind, numbers)
    again = f"python -m tests.fuzz {kind} --count 1 --traceback --first"
    assert [f"{error!r}; see it by {again} {number}" for number, error in tally.fallen] == []
    assert min(tally.verdicts["taken"], tally.verdicts["refused"]) > 0, "all cases are alike"
