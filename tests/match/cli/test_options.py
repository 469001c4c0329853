"""Options that are read by hand: moments and seeds."""

import pytest

from arena.cli.filters import parse_since
from arena.cli.loading import seeds_override
from envs.errors import ScenarioError


def test_moments_are_dates_or_so_long_ago():
    assert parse_since("2025-03-01T10:00+00:00").hour == 10
    assert parse_since("2025-03-01").tzinfo is not None
    assert parse_since("2h") > parse_since("1d")


@pytest.mark.parametrize(
    "text",
    ["lately", "999999999d", "9" * 30 + "h", "0001-01-01", "9999-12-31T23:59-14:00", "²d", ""],
)
def test_what_is_no_moment_of_a_calendar_is_refused(text):
    with pytest.raises(ScenarioError, match="a time like 2025-03-01"):
        parse_since(text)


@pytest.mark.parametrize(
    ("text", "seeds"), [("7", "[7]"), ("0,2", "[0, 2]"), ("0-2, 9", "[0, 1, 2, 9]")]
)
def test_seeds_are_numbers_and_ranges(text, seeds):
    assert seeds_override(text) == [f"seeds={seeds}"]


def test_seeds_written_otherwise_are_refused():
    with pytest.raises(ScenarioError, match="expected numbers and ranges"):
        seeds_override("one")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3-1", "expected the lower end of a range first, got '3-1'"),
        ("0,9-8", "expected the lower end of a range first, got '9-8'"),
        ("0-30000000", "expected at most 100000 seeds, got '0-30000000'; play them in several"),
        ("0-99999,7", "expected at most 100000 seeds"),
        ("-1", "expected numbers and ranges"),
    ],
)
def test_a_range_that_is_no_range_is_refused_before_it_is_written_out(text, message):
    with pytest.raises(ScenarioError, match=message) as caught:
        seeds_override(text)
    assert "\n" not in str(caught.value)
