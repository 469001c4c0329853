"""Tables in a terminal: what has to be copied stays whole, the least important columns go first."""

import io

from rich.console import Console

from arena.cli import progress
from arena.cli.render import write_line, write_table
from arena.runner.progress import Progress

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


def test_where_nothing_may_be_left_out_intervals_break_and_names_stay_whole():
    columns = ("", "undefended", "shape+place")
    rows = [("knockoff", "93.1 (88.6 to 97.5)", "87.9 (57.7 to 100.0)")]
    console = Console(width=42, force_terminal=True, no_color=True, file=io.StringIO())
    write_table(console, columns, rows, right=columns[1:])
    text = console.file.getvalue()
    assert "undefended" in text
    assert "shape+place" in text
    assert "knockoff" in text
    assert "…" not in text
    table = text.strip().splitlines()[1:]
    assert len(table) == 3  # what is left is shared out, so that two lines do for both intervals


def line(text, width=30, terminal=True, **options):
    console = Console(width=width, force_terminal=terminal, no_color=True, file=io.StringIO())
    write_line(console, text, **options)
    return console.file.getvalue()


def test_a_terminal_breaks_lines_between_words_and_never_what_is_to_copy():
    text = "a clone that guesses gets 10.0 % of the images right"
    assert line(text).splitlines() == ["a clone that guesses gets 10.0", "% of the images right"]
    assert line(text, terminal=False) == f"{text}\n"
    assert line(text, to_copy=True) == f"{text}\n"
    path = "log: /a/folder/with/a/long/name/arena.db"
    assert line(path) == f"{path}\n"


def test_live_rows_keep_standing_and_phase_whole_in_80_columns(monkeypatch):
    console = Console(width=80, height=9, force_terminal=True, no_color=True, file=io.StringIO())
    monkeypatch.setattr(progress, "err", lambda: console)
    title = "dfms-hl vs shape+place, seed 10"

    def shown():
        with console.capture() as capture:
            console.print(bars.get_renderable())
        return capture.get()

    bars = progress._bars()
    watcher = progress.LiveWatcher(bars)
    for index in (3, 4):
        watcher.begin(title, index, 9)
        watcher.line("fortress: 97% of its OOD training images leave early, " + "x " * 99)
        assert f"{index - 3} of 9" in shown()
        watcher.progress(title, Progress(used=300, budget=3000, clone_accuracy=None, seconds=7.0))
        text = shown()
        assert "attacking, clone not yet trained, 1 min 3 s left" in text
        assert all(word in text for word in title.split())
        watcher.end(title, "5bb433bdbb98", "success", None)
