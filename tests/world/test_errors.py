"""Errors in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.errors import ArenaError, LogError, UnknownName, one_line


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class EndingError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (LogError("log x: the disk is full"), "log x: the disk is full"),
        (KeyError("width"), "KeyError: 'width'"),
        (ValueError("first\n   second\tthird"), "ValueError: first second third"),
        (ValueError(""), "ValueError: no message"),
        (ArenaError(), "no message"),
        (UnreadableError(), "UnreadableError: its message cannot be read"),
        (EndingError(), "EndingError: its message cannot be read"),
        (ValueError("file \udce9.toml"), "ValueError: file \\udce9.toml"),
        (ValueError("\x1b[31mred\x00"), "ValueError: [31mred"),
    ],
)
def test_an_error_is_one_line(error: Exception, line: str):
    assert one_line(error) == line


@given(st.text(st.characters(codec=None)))
def test_any_message_gives_one_printable_line_that_can_be_stored(message: str):
    line = one_line(ValueError(message))
    assert line.isprintable()
    assert line.encode()


def test_a_name_is_missed_where_there_is_none_at_all():
    assert str(UnknownName("episode", "ab", [])) == "no episode named 'ab'; there is none"
