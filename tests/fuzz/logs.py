"""Damaged logs: bytes of the file, values, rows and tables; read by the commands that read logs."""

import shutil
import sqlite3
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from typer.testing import CliRunner

from arena.cli.app import app
from arena.log.store import Log
from tests.fuzz.mutation import damaged_bytes, strange
from tests.match.conftest import MadeUp

READERS = (
    ["log", "check"],
    ["episodes"],
    ["episodes", "--json"],
    ["episodes", "show", "{id}"],
    ["episodes", "show", "{id}", "--json"],
    ["export", "episodes"],
    ["export", "rounds", "--format", "jsonl"],
    ["export", "events"],
    ["compare", "dfme", "noise"],
    ["payoff"],
    ["replay", "{id}"],
    ["log", "migrate"],
    ["log", "prune", "{id}"],
)
RARELY = (
    ["report", "--out", "{folder}/report.html"],
    ["log", "merge", "{log}", "--log", "{folder}/other.db"],
)


@cache
def _sound() -> tuple[Path, str]:
    """Write a small log; returns its file and the id of an episode."""
    file = Path(mkdtemp(prefix="fuzz-log-")) / "arena.db"
    with Log.open(file) as log:
        for attacker in ("dfme", "noise"):
            for seed in (0, 1):
                name = MadeUp(log).play(
                    attacker,
                    seed=seed,
                    clone=0.4 + 0.1 * seed,
                    events=[("found", "something", {"layers": 3})],
                )
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    return file, name


def log(random: Random, folder: Path) -> str:
    """Damage a log and let three commands read it."""
    sound, name = _sound()
    file = folder / "arena.db"
    shutil.copy(sound, file)
    if random.random() < 0.5:
        file.write_bytes(damaged_bytes(file.read_bytes(), random))
    else:
        for _ in range(random.randint(1, 3)):
            _damage(file, random)
    readers = [["log", "check"], *random.sample(READERS[1:], 2)]
    if random.random() < 0.1:
        readers.append(list(random.choice(RARELY)))
    codes = [_read(words, file, name) for words in readers]
    return "taken" if not any(codes) else "refused"


def _damage(file: Path, random: Random) -> None:
    """Change a value of some row, leave out a row, or a table or a column."""
    with sqlite3.connect(file) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master "
                                                       "WHERE type = 'table'")]  # fmt: skip
        if not tables:
            return
        table = random.choice(tables)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        column, change = random.choice(columns), random.random()
        with suppress(sqlite3.Error):  # a constraint, which such damage cannot break
            if change < 0.8:
                connection.execute(f"UPDATE {table} SET {column} = ?", (_cell(random),))
            elif change < 0.9:
                connection.execute(f"DELETE FROM {table} WHERE rowid = 1")
            elif change < 0.95:
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
            else:
                connection.execute(f"DROP TABLE {table}")
    connection.close()


def _cell(random: Random) -> object:
    """Draw what SQLite can hold."""
    value = strange(random)
    if isinstance(value, list | dict) or random.random() < 0.2:
        return random.choice(("{", "[1,", '{"a": NaN}', "null", "[]", "{}", "0", b"\xff\x00", None))
    if isinstance(value, int) and abs(value) >= 2**63:
        return float(value)
    if isinstance(value, str) and "\ud800" in value:
        return value.encode("utf-8", "surrogatepass")
    return value


def _read(words: list[str], file: Path, name: str) -> int:
    line = [word.format(id=name[:12], folder=file.parent, log=file) for word in words]
    if "--log" not in line:
        line += ["--log", str(file)]
    result = CliRunner().invoke(app, line)
    assert result.exception is None or isinstance(result.exception, SystemExit), (
        line,
        result.exception,
    )
    assert result.exit_code in (0, 1, 2), (line, result.exit_code)
    assert "Traceback" not in result.output, (line, result.output)
    assert "--debug" not in result.output, (line, result.output)  # marks what is no ArenaError
    return result.exit_code
