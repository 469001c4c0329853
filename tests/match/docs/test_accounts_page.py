"""The page about accounts, followed to the letter: its scenario, its commands, what they tell."""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from arena.cli.app import app
from arena.log.store import Log

PAGE = (Path(__file__).parents[3] / "docs" / "accounts.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_leads_from_a_scenario_to_the_accounts_it_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARENA_LOG", raising=False)
    (scenario,), (commands,) = blocks("toml"), blocks("sh")
    Path("campaign.toml").write_text(scenario.partition("\n")[2])
    for line in commands.splitlines():
        # pages and figures take longest, and are another page's
        plain = ["--no-figure"] if line.startswith("arena run") else []
        told = CliRunner().invoke(app, shlex.split(line)[1:] + plain)
        assert told.exit_code == 0, told.output
    assert "noise / detector: more than 30 accounts until the clone has 80 %" in told.output
    assert re.search(r"detector +3 .* 900 +1\n", told.output)
    assert re.search(r"detector +30 .* 3,600 +1\n", told.output)
    with Log.open("arena.db") as log:
        of_accounts = {row.accounts_used: log.accounts(row.id) for row in log.episodes()}
    assert [one.queries_used for one in of_accounts[30]] == [20] * 30
    assert [one.queries_used for one in of_accounts[3]] == [200] * 3
    none = CliRunner().invoke(app, ["accounts", "--scenario", "nothing"])
    assert (none.exit_code, none.stdout) == (1, "")
    assert "no such successful play in arena.db" in none.stderr
