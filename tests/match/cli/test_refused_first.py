"""A command that is refused leaves nothing behind, and is refused before what takes long."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena import run as play
from arena.cli import bench
from arena.cli.app import app
from arena.log import file_systems
from arena.log.merging import merge
from arena.log.store import Log
from envs.errors import ArenaError

REFUSED = {
    "workers slurm": (["--workers", "slurm"], "submitit|every machine of the cluster reaches"),
    "workers none": (["--workers", "0"], "expected a number of workers"),
    "workers ray": (["--workers", "ray"], "needs Ray"),
    "a device": (["--device", "cuda:99"], "is not there"),
    "a device of no kind": (["--device", "abacus"], "expected"),
    "missing images": (
        ["--set", "data.use=cifar10", "--set", "data.root=/nowhere"], "no 'cifar10' in /nowhere"
    ),
    "missing weights": (["--set", "victim.weights=/nowhere/x.pt"], "no file /nowhere/x.pt"),
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refused(words, told, code=(1, 2)):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code in code, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("arena: ")
    assert any(one in line for one in told.split("|")), line


@pytest.mark.parametrize("way", REFUSED)
@pytest.mark.parametrize("command", ["run", "assess"])
def test_a_refused_match_leaves_no_log_behind(tiny_file, here, monkeypatch, command, way):
    monkeypatch.setitem(sys.modules, "ray", None)
    words, told = REFUSED[way]
    refused([command, tiny_file(), "--quiet", "--log", "new.db", *words], told)
    assert list(here.iterdir()) == []


def test_so_does_a_match_that_python_calls(tiny_file, here):
    with pytest.raises(ArenaError, match="is not there"):
        play(tiny_file(), log="new.db", device="cuda:99")
    assert list(here.iterdir()) == []


def test_a_server_that_cannot_listen_leaves_no_log_behind(tiny_file, here):
    pytest.importorskip("uvicorn")
    refused(["serve", tiny_file(), "--host", "256.1.1.1", "--log", "new.db"], "cannot listen")
    assert list(here.iterdir()) == []


def test_a_merge_of_what_is_no_log_leaves_no_log_behind(here):
    (here / "text.db").write_text("no log")
    refused(["log", "merge", "text.db", "--log", "new.db"], "no SQLite database|is not an SQLite")
    assert [path.name for path in here.iterdir()] == ["text.db"]


def test_a_log_that_was_there_or_into_which_anything_was_played_stays(here):
    Log.open("old.db").close()
    for name, says in (("old.db", []), ("new.db", ["something"]), ("none.db", [])):
        with pytest.raises(RuntimeError):
            _fail_in(name, says)
    assert sorted(path.name for path in here.glob("*.db*")) == ["new.db", "old.db"]


def _fail_in(name, says):
    with Log.open(name) as log:
        for text in says:
            log.event("said", text)
        raise RuntimeError


OVER = {
    "seal": ["log", "seal", "--out"],
    "report": ["report", "--out"],
    "leaderboard": ["leaderboard", "--out"],
    "export": ["export", "episodes", "--format", "csv", "--out"],
    "export as Parquet": ["export", "episodes", "--format", "parquet", "--out"],
    "benchmark": ["bench", "--save"],
}


@pytest.mark.parametrize("command", OVER)
@pytest.mark.parametrize("goal", ["arena.db", "other.db"])
def test_no_command_writes_over_a_log(here, made_up, monkeypatch, command, goal):
    made_up.play()
    for name in ("arena.db", "other.db"):
        with Log.open(here / name) as log:
            merge(log, made_up.log)
    held = (here / goal).read_bytes()
    monkeypatch.setattr(bench, "_measure", lambda *given, **named: {})
    words = [] if command == "benchmark" else ["--log", "arena.db"]
    refused([*OVER[command], goal, *words], f"{goal}: it is a log; name another file", code=(1,))
    assert (here / goal).read_bytes() == held


LATE = {
    "run": ["run", "tiny.toml", "--log", "no/x.db"],
    "assess": ["assess", "tiny.toml", "--log", "no/x.db"],
    "serve": ["serve", "tiny.toml", "--log", "no/x.db"],
    "run into a file": ["run", "tiny.toml", "--out", "file/x"],
    "assess into a file": ["assess", "tiny.toml", "--out", "file"],
    "report into a file": ["report", "--out", "file/x.html"],
    "report into a folder": ["report", "--out", "."],
    "figures into a file": ["report", "--figures", "file/x"],
    "a leaderboard into a folder": ["leaderboard", "--out", "."],
    "a benchmark into a folder": ["bench", "--save", "."],
}
TOLD = "there is no folder no to hold a log|is a file; name a folder|it is a folder; name a file"


@pytest.mark.parametrize("command", LATE)
def test_a_place_that_cannot_be_written_is_refused_first(here, monkeypatch, command):
    def begun(*args, **named):
        raise AssertionError("what takes long has begun")

    for name in ("run.load_all", "assess.load_one", "serve.load_one", "bench._measure"):
        module, _, function = name.partition(".")
        monkeypatch.setattr(sys.modules[f"arena.cli.{module}"], function, begun)
    monkeypatch.setattr(Log, "open", begun)
    (here / "file").write_text("")
    refused(LATE[command], TOLD, code=(1,))


def test_torch_is_not_loaded_before_the_log_is_looked_at(here):
    lines = (
        "import sys, atexit\natexit.register(lambda: print('torch' in sys.modules))\n"
        "from arena.cli import main\n"
        "sys.argv[1:] = ['assess', 'quickstart', '--log', 'no/x']\nmain()\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, check=False
    )
    assert told.stdout.strip() == "False", told.stderr


def test_what_would_write_on_a_network_file_system_names_it(made_up, tmp_path, monkeypatch):
    id, path = made_up.play(), made_up.log.where
    made_up.log.close()
    other = tmp_path / "other.db"
    Log.open(other).close()
    stray = Path(f"{path}.artifacts") / "stray.bin"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"kept")
    monkeypatch.setattr(file_systems, "_kind", lambda place: "nfs4")
    writers = (
        ["log", "prune", id, "--yes"], ["log", "prune", "--strays", "--yes"], ["log", "close", id],
        ["log", "merge", other], *([name, "quickstart"] for name in ("run", "assess", "serve")),
    )  # fmt: skip
    for words in writers:
        refused([*words, "--log", path], "network file system (nfs4)|network file system, nfs4")
    assert stray.read_bytes() == b"kept"
    told = CliRunner().invoke(app, ["episodes", "--json", "--log", path])
    assert (told.exit_code, id in told.stdout) == (0, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["export", "episodes", "--since", ""], "expected a time like"),
        (["episodes", "--until", ""], "expected a time like"),
        (["report", "--since", ""], "expected a time like"),
        (["log", "prune", "--status", "error", "--before", "", "--yes"], "expected a time like"),
        (["log", "prune", "--strays", "--before", "90d", "--yes"], "--strays removes files"),
        (["log", "prune", "3f2a", "--strays", "--yes"], "--strays removes files"),
        (["log", "prune", "--strays", "--status", "error", "--yes"], "--strays removes files"),
        (["log", "prune", "--strays", "--superseded"], "--strays removes files"),
        (["log", "prune", "--status", "eror", "--yes"], "did you mean 'error'"),
        (["episodes", "--kind", "plays"], "did you mean 'play'"),
        (["export", "rounds", "--status", ""], "no status named"),
        (["bench", "--from", "old.json", "--only", "log"], "--from measures nothing"),
        (["bench", "--from", "old.json", "--quick"], "--from measures nothing"),
        (["bench", "--from", "old.json", "--cpu-time"], "--from measures nothing"),
    ],
)
def test_no_option_is_passed_over(here, words, told):
    Log.open("a.db").close()
    refused([*words, *([] if words[0] == "bench" else ["--log", "a.db"])], told)


def test_reports_of_one_name_are_refused_before_they_replace_one_another(tiny_file, here):
    path = tiny_file()
    told = "the report or figures of 'tiny' would replace those of 'tiny'"
    refused(["run", path, path, "--log", "new.db"], told, code=(2,))
    assert list(here.iterdir()) == []
    for first, second in (("a b", "A-b"), ("\u65e5", "\u672c")):
        one, other = (shutil.copy(tiny_file(name=name), f"{number}.toml")
                      for number, name in enumerate((first, second)))  # fmt: skip
        words = ["run", one, other, "--log", "new.db", "--quiet"]
        refused([*words, "--out", "both"], f"of '{second}' would replace those of '{first}'")
        Path(one).unlink(), Path(other).unlink()
    assert list(here.iterdir()) == []
    told = CliRunner().invoke(app, ["run", str(path), str(path), "--dry-run", "--log", "new.db"])
    assert told.exit_code == 0, told.output


@pytest.mark.parametrize("command", ["run", "assess"])
def test_a_usual_folder_that_cannot_be_written_is_told_before_anything_is_played(
    tiny_file, here, command
):
    (here / "out").write_text("a file")
    refused([command, tiny_file(), "--log", "new.db", "--quiet"], "out is a file; name a folder")
    assert [path.name for path in here.iterdir()] == ["out"]


@pytest.mark.parametrize("words", [
    ["run", "tiny.toml", "--quiet"], ["run", "tiny.toml", "--dry-run"], ["assess", "tiny.toml"],
    ["episodes"], ["export", "episodes"], ["log", "check"], ["log", "migrate"], ["report"],
    ["log", "prune", "--status", "error", "--yes"], ["log", "merge", "other.db"], ["compare", "a"],
])  # fmt: skip
def test_an_empty_name_of_a_log_is_not_the_usual_log(tiny_file, here, words):
    Log.open("arena.db").close()
    Log.open("other.db").close()
    shutil.copy(tiny_file(), "tiny.toml")
    refused([*words, "--log", ""], "expected a log, a file or a database URL, got an empty text")


def test_an_empty_name_of_the_other_log_is_not_the_usual_one(here):
    Log.open("arena.db").close()
    refused(["log", "merge", "", "--log", "new.db"], "expected a log, a file or a database URL")
    told = CliRunner().invoke(app, ["doctor", "--log", ""])
    assert "! log" in told.stdout
