"""Names and errors of players reach terminals, figures, pages and tables as plain text."""

import csv
import io
import json
import xml.etree.ElementTree as ET

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log.export import export
from arena.report.html import write_report
from arena.report.plots.figures import write_figures
from envs.errors import printable

ESCAPES = ("\x1b[31m", "\x1b]0;title\x07", "\x9b2J", "\x00", "\u202e", "\x08")


@pytest.mark.parametrize("escape", ESCAPES)
def test_what_steers_a_terminal_becomes_blanks(escape):
    assert printable(f"a{escape}b\n\tc").endswith("b\n\tc")
    assert not set(printable(escape)) & {"\x1b", "\x9b", "\x00", "\u202e", "\x08", "\x07"}


def test_ordinary_texts_stay_as_they_are():
    text = "dfme ± 2.1, 20\u202f000, naïve, 日本\nnext\tcell"
    assert printable(text) == text


@pytest.fixture
def hostile(made_up):
    made_up.play(attacker="a\x1b[31m<b>", defender="d\x9b2J\u202e", error="e\x1b]0;x\x07")
    made_up.play(attacker="bad\x1b[2J", status="error", error="boom\x1b[31m\x9b1m")
    return made_up


@pytest.mark.parametrize(
    "command", [["episodes"], ["episodes", "--json"], ["payoff"], ["log", "check"]]
)
def test_a_terminal_gets_no_escapes_from_a_log(hostile, command):
    result = CliRunner().invoke(app, [*command, "--log", hostile.log.where])
    said = result.output
    assert not set(said) & {"\x1b", "\x9b", "\x07", "\u202e"} or "--json" in command
    if "--json" in command:
        assert not set(said) & {"\x1b", "\x9b", "\x07"}
        assert json.loads(said)[-1]["attacker"] in ("a\x1b[31m<b>", "bad\x1b[2J")


def test_figures_and_pages_stay_well_formed(hostile, tmp_path):
    ids = [row.id for row in hostile.log.episodes() if row.status == "success"]
    for figure in write_figures(hostile.log, ids, tmp_path, formats=("svg",)):
        ET.parse(figure)
    page = write_report(hostile.log, ids, tmp_path / "page.html").read_text()
    assert not set(page) & set("\x00\x07\x08\x1b\x9b\u202e")
    assert "&lt;b&gt;" in page


@pytest.mark.parametrize("name", ["=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_computes_no_name(made_up, name):
    made_up.play(attacker=name, defender="plain=1")
    text = io.StringIO()
    export(made_up.log, "episodes", "csv", text)
    (row,) = csv.DictReader(io.StringIO(text.getvalue(), newline=""))
    assert row["attacker"] == "'" + name.replace("\r", "\n")
    assert row["defender"] == "plain=1"
    assert float(row["clone_accuracy"]) == 0.5
