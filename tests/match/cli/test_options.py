"""Options that are read by hand: moments and seeds."""

import pytest

from arena.cli.filters import parse_since
from arena.cli.loading import seeds_override
from envs.errors import ScenarioError


def test_moments_are_dates_or_so_long_ago():
    assert parse_since("2025-03-01T10:00+00:00").hour == 10
    assert parse_since("2025-03-01").tzinfo is not None
    assert parse_since("2h") > parse_since("1d")
    with pytest.raises(ScenarioError, match="a time like 2025-03-01"):
        parse_since("lately")


@pytest.mark.parametrize(
    ("text", "seeds"), [("7", "[7]"), ("0,2", "[0, 2]"), ("0-2, 9", "[0, 1, 2, 9]")]
)
def test_seeds_are_numbers_and_ranges(text, seeds):
    assert seeds_override(text) == [f"seeds={seeds}"]


def test_seeds_written_otherwise_are_refused():
    with pytest.raises(ScenarioError, match="expected numbers and ranges"):
        seeds_override("one")
