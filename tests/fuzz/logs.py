"""Damaged logs: bytes of the file, values, rows and tables; read by the commands that read logs."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from typer.testing import CliRunner

import arena
from arena.cli.app import app
from arena.log.store import Log
from arena.report.live import LivePage
from envs.errors import ArenaError, printable
from tests.fuzz.mutation import damaged_bytes, strange
from tests.match.conftest import MadeUp

TABLES = ("episodes", "checkpoints", "rounds", "inferences", "events", "accounts", "artifacts")
FRAMES = ("episodes", "checkpoints", "rounds", "inferences", "events", "exits")
READERS = (
    ["log", "check"],
    ["episodes"],
    ["episodes", "--json"],
    ["episodes", "show", "{id}"],
    ["episodes", "show", "{id}", "--json"],
    *(["export", table] for table in TABLES),
    *(["export", table, "--format", "jsonl"] for table in TABLES),
    *(["export", table, "--out", "{folder}/table.parquet"] for table in TABLES),
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
    """Damage a log and let three commands, the frames and the live page read it."""
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
    refused = [_read(words, file, name) != 0 for words in readers]
    refused += [_frames(file, random.sample(FRAMES, 2)), _live_page(file)]
    return "refused" if any(refused) else "taken"


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


def _frames(file: Path, tables: list[str]) -> bool:
    """Read tables as Python does; returns whether they were refused."""

    def read() -> None:
        with arena.open_log(file) as log:
            for table in tables:
                getattr(log, table)()

    return _is_refused(read)


def _live_page(file: Path) -> bool:
    """Ask the live page for what is being played; returns whether it was refused.

    The figures below it are those of a report, which a few cases write.
    """

    def look() -> None:
        with Log.open(file, create=False, read_only=True) as log:
            live = LivePage(log)
            for found in (live.now(), live.state()):
                assert printable(found.text) == found.text

    return _is_refused(look)


def _is_refused(attempt: Callable[[], None]) -> bool:
    """Whether an attempt ends in one line of ours."""
    try:
        attempt()
    except ArenaError as error:
        if "\n" in str(error):
            raise ValueError("more than one line") from error
        return True
    return False


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
    assert printable(result.output) == result.output, (line, result.output)
    for page in file.parent.glob("*.html"):
        assert printable(page.read_text()) == page.read_text()
    return result.exit_code
