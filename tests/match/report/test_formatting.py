"""Numbers, durations and sizes read the same wherever they are shown."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena.analysis.intervals import Interval
from arena.analysis.metrics import MEASURES
from arena.cli.render import percent_interval
from arena.report.formatting import (
    cell,
    count_text,
    counted,
    digits,
    duration_text,
    listed,
    number,
    percent,
    plain,
    size_text,
    without_machine_paths,
)

_SECONDS = {"h": 3600, "min": 60, "s": 1, "ms": 1e-3, "µs": 1e-6}


def _seconds(text: str) -> float:
    return sum(float(n) * _SECONDS[unit] for n, unit in re.findall(r"([\d.]+) (\w+)", text))


def test_numbers_read_as_people_write_them():
    assert number(0.6124, "share") == "61.2%"
    assert number(-0.0123, "points") == "\N{MINUS SIGN}1.2"
    assert number(-0.0001, "points") == "0.0"
    assert number(4.2e6, "macs") == "4.2 M"
    assert number(950, "macs") == "950"
    assert number(999_900, "macs") == "1 M"
    assert plain([0.25, True, None]) == "0.25, yes, unknown"
    assert (percent(0.6124), percent(-1e-9), percent(None)) == ("61.2", "0.0", "-")
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert (counted(1, "seed"), counted(20_000, "seed")) == ("1 seed", "20,000 seeds")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 s"),
        (0.0134, "13.4 ms"),
        (0.9999, "1 s"),
        (12.44, "12.4 s"),
        (59.96, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (-185, "-3 min 5 s"),
    ],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration_text(seconds) == text


@given(st.floats(1e-8, 1e7))
def test_a_duration_is_right_to_its_last_digit_and_never_shows_an_exponent_or_sixty(seconds):
    text = duration_text(seconds)
    assert _seconds(text) == pytest.approx(seconds, rel=1e-2, abs=1e-9)
    assert "e" not in text
    assert not re.search(r"\b(60 s|60 min|1000 ms|1,000)", text)


@given(st.integers(-(10**12), 10**12))
def test_a_count_reads_back_and_has_a_comma_every_three_digits(count):
    text = count_text(count)
    assert int(text.replace(",", "")) == count
    assert re.fullmatch(r"-?\d{1,3}(,\d{3})*", text)


@given(st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-3))
def test_three_digits_count(value):
    text = digits(value)
    assert float(text.replace(",", "")) == pytest.approx(value, rel=6e-3)
    assert "e" not in text


@given(st.integers(0, 2**44))
def test_a_size_keeps_to_the_largest_unit_that_leaves_a_digit(size):
    amount, unit = size_text(size).split()
    factor = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)
    assert float(amount.replace(",", "")) * factor == pytest.approx(size, rel=0.051)
    assert float(amount.replace(",", "")) < 1024


def test_a_cell_says_when_it_rests_on_fewer_seeds_or_all_agree():
    measure = MEASURES["clone_accuracy"]
    assert cell(Interval(0.5, 0.4, 0.6, n=2), measure, seeds=3) == ("50.0%", "40.0 to 60.0", "n=2")
    assert cell(Interval(1.0, 1.0, 1.0, n=3), measure, seeds=3) == ("100.0%", "all alike", "")
    assert cell(None, measure, seeds=3) == ("", "", "")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("arena run /a/b/c.toml --seed 1", "arena run …/c.toml --seed 1"),
        ('root = "/home/My Name/data"', 'root = "…/data"'),
        (r"C:\Users\me\x.toml", "…/x.toml"),
        ("sqlite:////home/me/arena.db", "sqlite:///…/arena.db"),
        ("file:///home/me/a.html", "file://…/a.html"),
        ("--log=/srv/logs/arena.db", "--log=…/arena.db"),
        ("scenarios/x.toml and ../y.toml and ~/z.toml", None),
        ("https://host.example/a/b", None),
        ("1/2/3 MACs/s, dfme / dnf", None),
    ],
)
def test_only_absolute_paths_are_cut(text, left):
    assert without_machine_paths(text) == (text if left is None else left)


def test_a_terminal_says_that_seeds_are_alike_instead_of_an_interval_without_width():
    assert percent_interval(Interval(0.5, 0.5, 0.5, 2, alike=True)) == "50.0 (alike)"
    assert percent_interval(Interval(0.5, 0.4, 0.6, 2, alike=True)) == "50.0 (40.0 to 60.0)"
