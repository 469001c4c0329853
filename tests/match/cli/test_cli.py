"""The command line: what it prints, where, and with which exit code."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import arena
from arena.cli.app import app
from arena.cli.progress import LineWatcher
from arena.runner.match import MatchResult
from arena.runner.progress import Progress
from envs.errors import ArenaError, ScenarioError

TINY = """
version = 1
name = "tiny"
description = "Does the command line hold together?"
data = "digits"
seeds = [0, 1]
checkpoints = 2
[victim]
use = "conv-small"
recipe = { epochs = 1 }
[clone]
use = "mlp-small"
[threat]
budget = 300
[[attackers]]
use = "noise"
[[defenders]]
defence = "undefended"
"""

ESCAPE = "\x1b"


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARENA_LOG", raising=False)
    (tmp_path / "tiny.toml").write_text(TINY)

    def call(*words, code=0):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A folder in which the tiny scenario was played once."""
    folder = tmp_path_factory.mktemp("played")
    (folder / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(app, ["run", "tiny.toml", "--log", "tiny.db"])
    assert done.exit_code == 0, done.output
    return folder, done


def modules_loaded_by(*words):
    code = (
        "import sys; sys.argv[:] = ['arena', *sys.argv[1:]]\n"
        "from arena.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print('code', end.code, file=sys.stderr)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    verdict, modules = done.stderr.splitlines()[-2:]
    assert verdict == "code 0"
    return done.stdout, set(modules.split())


# `email` comes with the names of installed distributions
HEAVY = {"torch", "sqlalchemy", "matplotlib", "pydantic", "scipy", "numpy", "sklearn", "email"}


def test_help_names_every_command_and_loads_nothing_heavy():
    told, modules = modules_loaded_by("--help")
    for command in ("run", "scenarios", "episodes", "agents", "train", "check", "new", "doctor"):
        assert re.search(rf"\b{command}\b", told)
    assert not modules & HEAVY


def test_reading_a_scenario_loads_no_torch():
    told, modules = modules_loaded_by("scenarios", "show", "quickstart")
    assert 'name = "quickstart"' in told
    assert "torch" not in modules


@pytest.mark.parametrize("command", ["run", "scenarios", "episodes", "agents", "train", "check",
                                     "new", "doctor"])  # fmt: skip
def test_every_command_has_help(cli, command):
    text = cli(command, "--help").output
    assert "Usage" in text
    assert len(text.splitlines()) > 5


def test_version_is_told(cli):
    assert re.fullmatch(r"arena \d+\.\d+\.\d+\n", cli("--version").stdout)


# Playing


def test_a_run_in_a_pipe_is_plain_text_with_progress_apart_from_the_results(played):
    _, done = played
    assert ESCAPE not in done.stdout + done.stderr
    assert "[1/2] noise vs undefended, seed 0" in done.stderr
    assert "[2/2] noise vs undefended, seed 1" in done.stderr
    assert "[1/2]" not in done.stdout
    header, row = done.stdout.splitlines()[1:3]
    assert header.split()[:2] == ["attacker", "defender"]
    assert re.search(r"noise\s+undefended\s+\d+\.\d \(\d+\.\d to \d+\.\d\)", row)
    assert row.endswith(" 2")


def test_a_run_leaves_figures_and_a_report_and_says_where(played):
    folder, done = played
    written = [folder / line for line in done.stdout.splitlines() if line.startswith("out/tiny/")]
    assert {path.suffix for path in written} >= {".html", ".png", ".svg"}
    assert all(path.stat().st_size > 0 for path in written)


def test_what_was_played_is_skipped_and_shown_again(played, cli):
    folder, done = played
    again = cli("run", folder / "tiny.toml", "--log", folder / "tiny.db", "--no-figure")
    assert "2 of 2 skipped, because the log has them; --fresh plays them again" in again.stdout
    assert done.stdout.splitlines()[2] in again.stdout


def test_json_on_standard_output_is_pure_json(played, cli):
    folder, _ = played
    told = cli("run", folder / "tiny.toml", "--log", folder / "tiny.db", "--no-figure", "--json")
    report = json.loads(told.stdout)
    (scenario,) = report["scenarios"]
    assert scenario["name"] == "tiny"
    assert [row["seed"] for row in scenario["episodes"]] == [0, 1]
    assert scenario["scoreboard"][0]["clone_accuracy"]["n"] == 2


def test_seeds_and_set_reach_the_scenario(cli):
    words = ["run", "tiny.toml", "--seeds", "4", "--set", "threat.budget=100", "--no-figure"]
    (scenario,) = json.loads(cli(*words, "--json", "--quiet").stdout)["scenarios"]
    (row,) = scenario["episodes"]
    assert (row["seed"], row["queries_used"]) == (4, 100)


def test_a_failed_episode_is_exit_code_one_with_its_reason(cli, tmp_path):
    player = (
        "from agents import Attacker\nclass Bad(Attacker):\n    def attack(self, o, k): 1 / 0\n"
    )
    (tmp_path / "bad.py").write_text(player)
    (tmp_path / "tiny.toml").write_text(TINY.replace('"noise"', '"bad.py:Bad"'))
    told = cli("run", "tiny.toml", "--seeds", "0", code=1)
    assert "Bad vs undefended, seed 0: error" in told.stdout
    assert "ZeroDivisionError: division by zero" in told.stdout


def test_nothing_is_played_when_one_of_the_files_is_wrong(cli, tmp_path):
    (tmp_path / "wrong.toml").write_text(TINY.replace("budget", "bugdet"))
    told = cli("run", "tiny.toml", "wrong.toml", code=2)
    assert "threat.bugdet: unknown key; did you mean 'budget'?" in told.stderr
    assert not (tmp_path / "arena.db").exists()


def test_an_interrupted_match_is_exit_code_130_and_says_what_is_left(cli, monkeypatch):
    monkeypatch.setattr(
        "arena.runner.match.play", lambda *a, **k: MatchResult([], interrupted=True, total=2)
    )
    told = cli("run", "tiny.toml", "--quiet", code=130)
    assert told.stderr == (
        "arena: interrupted with 2 episodes left; the same command goes on; the log has what was "
        "measured, see 'arena episodes'\n"
    )


def test_an_interrupt_before_the_match_is_one_line(cli, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("arena.runner.match.play", interrupt)
    assert cli("run", "tiny.toml", "--quiet", code=130).stderr == "arena: interrupted\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ArenaError("the disk is full"), 1, "arena: the disk is full"),
        (ScenarioError("x: wrong"), 2, "arena: x: wrong"),
        (ZeroDivisionError("oh"), 1, "arena: ZeroDivisionError: oh; run again with --debug to see "
                                     "where"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_debug_shows_the_traceback(cli, monkeypatch, error, code, line):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("arena.scenario.load", fail)
    told = cli("scenarios", "show", "quickstart", code=code)
    assert told.stderr == f"{line}\n"
    for words in (("--debug", "scenarios", "show", "x"), ("scenarios", "show", "x", "--debug")):
        assert "Traceback" in cli(*words, code=code).stderr


def test_an_unknown_command_or_option_is_exit_code_two(cli):
    cli("rnu", code=2)
    cli("run", "tiny.toml", "--sedes", "3", code=2)


def test_victims_are_trained_ahead(cli):
    told = cli("train", "tiny.toml", "--quiet")
    assert told.stdout == "tiny: 2 defended victims are ready\n"


def test_drawn_seeds_are_told_to_whoever_goes_on(cli, tmp_path, monkeypatch):
    """The same command would draw others: nothing is found again by it."""
    text = re.sub(r"(?m)^seeds = .*$", "", TINY)
    (tmp_path / "drawn.toml").write_text(text.replace('name = "tiny"', 'name = "drawn"'))
    told = cli("train", "drawn.toml", "--quiet").stdout
    drew = re.search(r"drawn names no seeds; drew (\d+), and 'arena run' finds them", told)
    assert drew is not None, told
    assert f"with --seeds {drew[1]}" in told
    monkeypatch.setattr(
        "arena.runner.match.play", lambda *a, **k: MatchResult([], interrupted=True, total=2)
    )
    line = cli("run", "tiny.toml", "drawn.toml", "--quiet", code=130).stderr
    assert re.search(
        r"the same command goes on; drawn with --seeds \d+, which was drawn; the", line
    )


# Watching


def test_a_pipe_hears_a_line_of_many_only_every_few_seconds(capsys):
    watcher = LineWatcher(lambda episode_id: 0.5)
    for epoch in range(100):
        watcher.line(f"training victim: epoch {epoch}")
    watcher.line("loading shapes")
    watcher.begin("a vs b, seed 0", 0, 1)
    for used in range(100):
        watcher.progress("a vs b, seed 0", Progress(used, 100, 0.3, 1.0))
    watcher.end("a vs b, seed 0", "abc", "success", None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == ["  training victim: epoch 0", "  loading shapes", "[1/1] a vs b, seed 0"]
    assert lines[3].startswith("  a vs b, seed 0: success (abc), clone 50.0 %")
    assert len(lines) == 4


WATCHED = """
from arena.cli.progress import watching
from arena.cli.common import out
from arena.cli.render import write_table
from arena.runner.progress import Progress
with watching(quiet=False, outcome=lambda episode_id: 0.75) as watcher:
    watcher.begin("a vs b, seed 0", 0, 1)
    watcher.progress("a vs b, seed 0", Progress(50, 100, 0.5, 1.0))
    watcher.end("a vs b, seed 0", "abc", "success", None)
write_table(out(), ("one", "two"), [("1", "2")])
"""


def test_a_terminal_sees_bars_and_no_color_takes_the_colours():
    pty = pytest.importorskip("pty")

    def seen(**environment):
        parent, child = pty.openpty()
        env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environment}
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHED], stdout=child, stderr=child, env=env
        )
        os.close(child)
        text = b""
        with open(parent, "rb", buffering=0) as screen, contextlib.suppress(OSError):
            while part := screen.read(65536):  # OSError: the other end was closed
                text += part
        assert process.wait() == 0, text.decode()
        return text.decode()

    colour = re.compile(r"\x1b\[[0-9;]*(?:3[0-9]|9[0-7])[0-9;]*m")
    coloured, plain = seen(), seen(NO_COLOR="1")
    assert "a vs b, seed 0: success (abc), clone 75.0 %" in coloured
    assert colour.search(coloured)
    assert not colour.search(plain)
    assert "a vs b, seed 0: success (abc), clone 75.0 %" in plain


# Listings


def test_scenarios_are_listed_with_and_without_the_word_list(cli):
    assert cli("scenarios").stdout == cli("scenarios", "list").stdout
    listed = {row["name"]: row for row in json.loads(cli("scenarios", "--json").stdout)}
    assert listed["quickstart"]["episodes"] == 9
    assert Path(listed["quickstart"]["path"]).is_file()


def test_a_shown_scenario_can_be_checked(cli, tmp_path):
    shown = cli("scenarios", "show", "tiny.toml", "--set", "threat.budget=7").stdout
    (tmp_path / "shown.toml").write_text(shown)
    assert "budget = 7" in shown
    assert cli("scenarios", "check", "shown.toml").stdout == "shown.toml: OK, 2 episodes\n"


def test_the_check_of_several_scenarios_names_each(cli, tmp_path):
    (tmp_path / "wrong.toml").write_text(TINY.replace('"noise"', '"nois"'))
    told = cli("scenarios", "check", "tiny.toml", "wrong.toml", "--json", code=2)
    right, wrong = json.loads(told.stdout)
    assert right["ok"]
    assert wrong["problems"] == [
        "wrong.toml: attackers.nois: no attacker named 'nois'; did you mean 'noise'?"
    ]


def test_the_check_tells_which_files_are_not_there_yet(cli):
    words = ["scenarios", "check", "tiny.toml", "--set", 'data={use="folder", root="nowhere"}']
    told = cli(*words).stdout
    assert told.startswith("tiny.toml: OK, 2 episodes\n  not here yet: no 'folder' in nowhere")
    (one,) = json.loads(cli(*words, "--json").stdout)
    assert one["ok"]
    assert [line[:23] for line in one["missing"]] == ["no 'folder' in nowhere:"]


def test_the_schema_knows_every_key(cli):
    schema = json.loads(cli("scenarios", "schema").stdout)
    assert {"version", "data", "threat", "attackers", "defenders"} <= set(schema["properties"])
    assert schema["properties"]["seeds"]["description"]


def test_agents_lists_every_kind_with_parameters(cli):
    listed = json.loads(cli("agents", "--json").stdout)
    assert set(listed) == {
        "attackers", "defenders", "wrappers", "defences", "metrics", "networks", "data"
    }  # fmt: skip
    dfme = next(entry for entry in listed["attackers"] if entry["name"] == "dfme")
    parameters = {each["name"]: each for each in dfme["parameters"]}
    spend = parameters["spend_rest"]
    assert (spend["type"], spend["default"], bool(spend["meaning"])) == ("bool", "True", True)
    assert dfme["summary"]
    assert not [entry for kind in listed.values() for entry in kind if entry["fault"]]
    assert "resnet10" in cli("agents", "networks").stdout


def test_episodes_are_listed_filtered_and_shown(played, cli):
    folder, _ = played
    log = ("--log", folder / "tiny.db")
    rows = json.loads(cli("episodes", "--json", *log).stdout)
    assert {row["seed"] for row in rows} == {0, 1}
    assert json.loads(cli("episodes", "list", "--attacker", "dfme", "--json", *log).stdout) == []
    (row,) = json.loads(cli("episodes", "--seed", "1", "--json", *log).stdout)
    shown = cli("episodes", "show", row["id"][:6], *log).stdout
    assert f"noise vs undefended, seed 1: success ({row['id']}, scenario tiny)" in shown
    assert "300 of 300" in shown
    details = json.loads(cli("episodes", "show", row["id"], "--json", *log).stdout)
    assert [point["index"] for point in details["checkpoints"]] == [0, 1]
    assert "the newest 1; --limit 0 lists all" in cli("episodes", "--limit", "1", *log).stdout


def test_an_episode_that_is_not_there_is_a_usage_error(played, cli):
    folder, _ = played
    told = cli("episodes", "show", "zzz", "--log", folder / "tiny.db", code=2)
    assert told.stderr.startswith("arena: no episode named 'zzz'")


def test_listing_a_log_that_is_not_there_makes_none(cli, tmp_path):
    told = cli("episodes", "--log", "gone.db", code=1)
    assert told.stderr.startswith("arena: ")
    assert not (tmp_path / "gone.db").exists()


def test_the_doctor_sees_versions_caches_and_the_log(played, cli):
    folder, _ = played
    facts = json.loads(cli("doctor", "--log", folder / "tiny.db", "--json").stdout)
    assert all(fact["fine"] for fact in facts.values())
    assert "2 episodes" in facts["log"]["text"]
    assert facts["torch"]["text"]
    assert str(Path(arena.__file__).parent) in facts["import arena"]["text"]


def test_the_doctor_names_a_package_that_shadows_ours(tmp_path):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("")
    code = (
        "from arena.cli.diagnosis import _origin\n"
        "fact = _origin('agents')\nprint(fact.fine, fact.text)"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.startswith(f"False found {tmp_path / 'agents'}")


def test_the_doctor_tells_a_log_it_cannot_read(cli, tmp_path):
    (tmp_path / "noise.db").write_text("this is no database, " * 100)
    told = cli("doctor", "--log", "noise.db", code=1)
    assert re.search(r"^! log ", told.stdout, re.MULTILINE)
