"""`arena log`: check, merge, prune and migrate a log."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arena.cli.common import FAILED, JsonOption, LogOption, out
from arena.cli.filters import IdsArgument, filtered, parse_since
from arena.cli.render import LISTED, write_episodes, write_json, write_line
from arena.report.formatting import counted, listed
from envs.errors import ScenarioError

if TYPE_CHECKING:
    from arena.log.episode_filter import EpisodeFilter
    from arena.log.store import Log

# `Any` in this file: rows of a log with some of its columns.

app = typer.Typer(help="Check, merge, prune and migrate a log.", no_args_is_help=True)


@app.command()
def check(
    sealed: Annotated[
        Path | None,
        typer.Option("--seal", metavar="FILE", help="Compare with what 'arena log seal' wrote."),
    ] = None,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Check a log and its files without changing them; exit code 1 if something is wrong."""
    from arena.log.checking import check as examine
    from arena.log.sealing import broken_seals
    from arena.log.store import Log

    with Log.open(log, read_only=True) as store:
        findings = examine(store)
        if sealed is not None:
            findings += broken_seals(store, sealed)
        count = store.count()
    faults = [finding for finding in findings if finding.kind == "fault"]
    if json:
        write_json({"sound": not faults, "episodes": count, "findings": findings})
    else:
        console = out()
        for finding in findings:
            write_line(console, f"{finding.kind}: {finding.what}: {finding.message}")
        verdict = counted(len(faults), "fault") if faults else "OK"
        write_line(console, f"{store.where}: {verdict}, {counted(count, 'episode')}")
    if faults:
        raise typer.Exit(FAILED)


@app.command()
def seal(
    out_file: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="File to write.")
    ] = Path("seal.txt"),
    log: LogOption = None,
) -> None:
    """Write the digest of each ended episode to a file, for a paper's appendix."""
    from arena.log.sealing import seal as write
    from arena.log.store import Log

    with Log.open(log, read_only=True) as store:
        count = write(store, out_file)
    write_line(out(), f"{out_file}: {counted(count, 'episode')}")


@app.command()
def merge(
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The log to take episodes from.")],
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Copy the episodes of another log into this one; keeps ids and skips duplicates."""
    from arena.log.engine import named, resolve
    from arena.log.merging import merge as copy
    from arena.log.store import Log

    places = [resolve(target) for target in (other, named(log))]
    if places[0].url == places[1].url or len({p.path and p.path.resolve() for p in places}) == 1:
        raise ScenarioError(f"expected another log than {other} to merge into it")
    with Log.open(other, read_only=True) as source, Log.open(log) as store:
        merged = copy(store, source)
    if json:
        write_json(asdict(merged))
        return
    files = counted(merged.files, "file")
    copied = f"{counted(merged.episodes, 'episode')} of {counted(merged.runs, 'new run')}"
    write_line(out(), f"{store.where}: copied {copied} and {files}; skipped "
                      f"{merged.duplicates} as duplicates")  # fmt: skip
    if merged.continued:
        write_line(out(), f"replaced {counted(merged.continued, 'episode')} that had broken off "
                          f"here and went on there")  # fmt: skip
    _tell_left_out(merged.left_out, other)


def _tell_left_out(ids: Sequence[str], where: str) -> None:
    """Name the episodes that a command passed over because they have not ended."""
    if ids:
        write_line(out(), f"left out, because they have not ended: {', '.join(ids)}; if the "
                          f"process of one is gone, 'arena log close ID --log {where}' "
                          f"closes it")  # fmt: skip


@app.command()
def close(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Episodes, by id or prefix.")],
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Close episodes whose process is gone, so that they can be resumed, merged or removed."""
    from arena.log.store import Log

    with Log.open(log, create=False) as store:
        rows = [store.episode(id) for id in dict.fromkeys(ids)]
        for row in rows:
            store.close_episode(row.id)
        where = store.where
    if json:
        write_json({"closed": [row.id for row in rows]})
    else:
        for row in rows:
            write_line(out(), f"{where}: closed {row.id}, {row.attacker} vs {row.defender}, "
                              f"seed {row.seed}")  # fmt: skip


@app.command()
@filtered("scenario", "attacker", "defender", "status", "run", "seed")
def prune(
    ids: IdsArgument = None,
    which: "EpisodeFilter | None" = None,
    before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only episodes before 2025-03-01, 36h or 7d ago."),
    ] = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Only episodes that a newer success replaces.")
    ] = False,
    strays: Annotated[
        bool, typer.Option("--strays", help="Remove files that belong to no episode instead.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them; without it, only list them.")
    ] = False,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """List episodes to remove with their rows and files; --yes removes them."""
    from arena.log.store import Log

    chosen = ids or which or before is not None or superseded
    if strays and chosen:
        raise ScenarioError("--strays removes files that belong to no episode; leave out what "
                            "chooses episodes")  # fmt: skip
    if not (chosen or strays):
        raise ScenarioError("name what to prune: ids, --superseded, --status error, --before 90d, "
                            "--strays, ...; 'arena log prune --help' lists it")  # fmt: skip
    with Log.open(log, create=False) as store:
        if strays:
            _prune_strays(store, yes=yes, json=json)
            return
        # to remove damaged rows no more of them is read than it takes
        told = ("id", "status", "started") if yes else LISTED
        meant = _meant(store, told, ids or [], which, before=before, superseded=superseded)
        rows = [row for row in meant if row.status != "started"]
        left_out = [row.id for row in meant if row.status == "started"]
        if yes:
            _prune(store, rows, left_out, json=json)
        elif json:
            write_json({"would_remove": [row.id for row in rows], "left_out": left_out})
        elif rows:
            write_episodes(out(), rows)
            write_line(out(), f"--yes would remove {counted(len(rows), 'episode')}")
        elif not meant:
            write_line(out(), f"no such episode in {store.where}")
        if not json:
            _tell_left_out(left_out, store.where)


def _meant(
    log: "Log",
    told: Sequence[str],
    ids: list[str],
    which: "EpisodeFilter | None",
    *,
    before: str | None,
    superseded: bool,
) -> list[Any]:
    """Find the episodes that every given condition lets through, rows with the told columns."""
    from arena.log.pruning import superseded as replaced

    rows = list(log.columns(told, which))
    if ids:
        named = {log.whole_id(id) for id in ids}
        rows = [row for row in rows if row.id in named]
    if before is not None:
        moment = parse_since(before)
        rows = [row for row in rows if row.started < moment]
    if superseded:
        old = set(replaced(log))
        rows = [row for row in rows if row.id in old]
    return rows


def _prune(log: "Log", rows: list[Any], left_out: list[str], *, json: bool) -> None:
    from arena.log.pruning import compact, prune

    pruned = prune(log, [row.id for row in rows])
    compacted = compact(log)
    if json:
        write_json({**asdict(pruned), "compacted": compacted, "left_out": left_out})
        return
    parts = (
        counted(pruned.episodes, "episode"),
        counted(pruned.runs, "run"),
        counted(pruned.files, "file"),
    )
    write_line(out(), f"{log.where}: removed {listed(parts)}")
    if not compacted and log.engine.dialect.name == "sqlite":
        write_line(out(), "the file keeps its size, because another process uses the log")


def _prune_strays(log: "Log", *, yes: bool, json: bool) -> None:
    from arena.log.pruning import remove_strays, strays

    found = strays(log)
    count = remove_strays(log, found) if yes else 0
    if json:
        write_json({"removed" if yes else "would_remove": found})
        return
    for path in found:
        write_line(out(), str(path))
    verb = "removed" if yes else "--yes would remove"
    write_line(out(), f"{verb} {counted(count if yes else len(found), 'file')}")


@app.command()
def migrate(log: LogOption = None) -> None:
    """Upgrade an older log to the schema of this version."""
    from arena.log.engine import connect, named, resolve
    from arena.log.opening import BUSY_SECONDS
    from arena.log.schema_version import HEAD, version
    from arena.log.store import Log

    address = resolve(named(log))
    before = None
    if address.path is None or address.path.is_file():
        engine = connect(address, read_only=False, busy_seconds=BUSY_SECONDS)
        try:
            with engine.connect() as connection:
                before = version(connection)
        except Exception:
            before = None  # opening it says what is wrong, in one line
        finally:
            engine.dispose()
    with Log.open(log, create=False) as store:
        if before == HEAD:
            write_line(out(), f"{store.where} has schema {HEAD} already")
        else:
            write_line(out(), f"{store.where}: from schema {before} to {HEAD}")
