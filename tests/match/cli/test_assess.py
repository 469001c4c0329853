"""`arena assess` as its user calls it: played once, written down, resumed, refused in one line."""

import json

import pytest
from typer.testing import CliRunner

from arena.cli.app import app


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_an_assessment_is_played_written_and_resumed(tiny_file, tmp_path):
    path = tiny_file(
        threat={"budget": 40, "labels": "soft"},
        defenders=[{"name": "top", "defence": "truncation", "params": {"top": 1}}],
    )
    where = ("--log", tmp_path / "a.db", "-o", tmp_path / "pack", "--quiet")
    forecast = call("assess", path, "--dry-run", "--json", *where)
    meetings = [len(one["meetings"]) for one in json.loads(forecast.stdout)["scenarios"]]
    assert len(meetings) == 2  # a quarter of the budget, and all of it
    played = call("assess", path, "--budgets", "9", *where)
    assert played.exit_code == 0, played.output
    assert "9 queries" in played.stdout
    assert "top: the worst case is a clone with" in played.stdout
    told = json.loads((tmp_path / "pack" / "assessment.json").read_text())
    assert [one["budget"] for one in told["budgets"]] == [9]
    assert len(told["episodes"]) == meetings[0]
    assert {one["defender"] for one in told["budgets"][0]["defenders"]} == {"undefended", "top"}
    assert all(one["content_digest"] and one["plan_hash"] for one in told["episodes"])
    assert "AML.T0024.002" in {one["id"] for one in told["standards"] if one["evidence"]}
    assert "AML.T0014" not in {one["id"] for one in told["standards"] if one["evidence"]}
    page = (tmp_path / "pack" / "assessment.html").read_text()
    for shown in ("<h1>Assessment of", "NISTAML.031", "control matches attack", "exit-timing"):
        assert shown in page
    again = call("assess", path, "--budgets", "9", "--json", *where)
    assert json.loads(again.stdout)["assessment"]["episodes"] == told["episodes"]


@pytest.mark.parametrize("budgets", ["", "0", "ten", "5,-1", "1e3"])
def test_no_list_of_budgets_is_refused_in_one_line(tiny_file, tmp_path, budgets):
    refused = call("assess", tiny_file(), "--budgets", budgets, "--log", tmp_path / "a.db")
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert "expected numbers like 1000,10_000" in refused.stderr
    assert not (tmp_path / "a.db").exists()
