"""The page about writing a defence, followed to the letter: its class, its game, what it names."""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from arena.cli.app import app
from arena.log.store import Log
from envs.defences.base import Defence, Serving
from envs.defences.harden_kit import HardenKit

PAGE = (Path(__file__).parents[3] / "docs" / "write_defence.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_leads_from_a_class_to_a_game(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARENA_LOG", raising=False)
    (module, _), (scenario,), (commands,) = blocks("python"), blocks("toml"), blocks("sh")
    Path("shy.py").write_text(module)
    Path("shy.toml").write_text(scenario.partition("\n")[2])
    for line in commands.splitlines():
        plain = ["--no-figure", "--quiet"] if line.startswith("arena run") else []
        told = CliRunner().invoke(app, shlex.split(line)[1:] + plain)
        assert told.exit_code == 0, told.output
    with Log.open("arena.db") as log:
        moved = {row.defender: row.distortion_mean for row in log.episodes()}
        served = {row.defender: row.served_agreement for row in log.episodes()}
    assert moved["undefended"] == 0 < moved["shy"] < 0.4
    assert served["shy"] == 1  # it keeps labels


def test_what_the_page_names_is_there():
    for block in blocks("python")[1:]:
        exec(block, {})
    hooks = set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE))
    assert hooks == {name for name in vars(Defence) if name.startswith(("perturb", "harden"))}
    attributes = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert attributes == {
        name for name in vars(Defence) if not name.startswith("_")
    } - hooks - {"answer", "simulated"}  # fmt: skip
    for kind in (Serving, HardenKit):
        assert all(f"`{name}" in PAGE for name in kind.__annotations__ if name != "expected")
