"""Tables in a terminal: what has to be copied stays whole, the least important columns go first."""

import io

from rich.console import Console

from arena.cli.render import write_table

COLUMNS = ("id", "attacker", "clone %", "time")
ROWS = [("5bb433bdbb98", "random-generator", "15.3", "1 min 20 s")]


def shown(width, **options):
    console = Console(width=width, force_terminal=True, no_color=True, file=io.StringIO())
    write_table(console, COLUMNS, ROWS, right=("clone %", "time"), **options)
    return console.file.getvalue()


def test_a_wide_terminal_shows_all():
    text = shown(60, optional=("time", "clone %"))
    assert "1 min 20 s" in text
    assert "too narrow" not in text


def test_a_narrow_one_leaves_out_the_first_optional_column_and_says_so():
    # 12 + 16 + 5 + 10, three gaps of three and two sides are 54
    whole = shown(54, optional=("time", "clone %"))
    assert "too narrow" not in whole
    assert all(cell in whole for cell in ROWS[0])
    text = shown(53, optional=("time", "clone %"))
    assert "1 min" not in text
    assert "15.3" in text
    assert "5bb433bdbb98" in text
    assert "random-generator" in text
    assert "too narrow for: time (--json has all)" in text
    assert "too narrow for: time, clone % (" in shown(40, optional=("time", "clone %")).replace(
        "\n", " "
    )


def test_of_two_columns_of_one_name_the_last_is_the_optional_one():
    console = Console(width=11, force_terminal=True, no_color=True, file=io.StringIO())
    write_table(console, ("p", "q", "p"), [("aaa", "bbb", "ccc")], optional=("p",))
    assert "aaa" in console.file.getvalue()
    assert "ccc" not in console.file.getvalue()
