"""`arena episodes`: list and show the episodes of a log, and take a clone out of it."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arena.analysis.trained import NOT_YET, trained_points
from arena.cli.common import JsonOption, LogOption, TrustOption, WithDefault, out
from arena.cli.filters import MOST, filtered
from arena.cli.render import (
    LISTED,
    fate,
    write_episodes,
    write_json,
    write_json_lines,
    write_line,
    write_table,
)
from arena.report.formatting import ABSENT, count_text, duration_text, number, percent
from envs.errors import UnknownName

if TYPE_CHECKING:
    from rich.console import Console

    from arena.log.episode_filter import EpisodeFilter
    from arena.log.rows import AccountRow, CheckpointRow, EpisodeRow, InferenceRow, RoundRow
    from arena.log.store import Log

# `Any` in this file: one key of an episode's settings, of whatever type.

app = typer.Typer(cls=WithDefault, help="List and show episodes of the log; write their clones.")


@app.command("list")
@filtered(
    "scenario", "attacker", "defender", "status", "seed", "run", "kind", "where", "since", "until"
)
def list_(
    which: "EpisodeFilter | None" = None,
    limit: Annotated[
        int, typer.Option(min=0, max=MOST, help="List only the newest so many; 0 lists all.")
    ] = 50,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Order by clone_accuracy, wall_seconds, seed, attacker or another column; numbers "
            "the highest first.",
        ),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Order the other way round.")] = False,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """List episodes, the newest first."""
    from arena.log.episode_filter import EpisodeFilter
    from arena.log.store import Log

    descending = (sort is None or _is_number(sort)) != reverse
    which = replace(
        which or EpisodeFilter(), limit=limit or None, sort=sort, newest_first=descending
    )
    with Log.open(log, create=False) as store:
        if json:
            write_json_lines(store.episodes_as_json(which))
            return
        found = store.columns(LISTED, which)
    if found:
        write_episodes(out(), found)
        if len(found) == limit:
            first = "newest" if sort is None and not reverse else "first"
            write_line(out(), f"the {first} {limit}; --limit 0 lists all")
    else:
        write_line(out(), f"no such episode in {store.where}")


_WORDS = ("scenario_name", "attacker", "defender", "victim", "clone", "data", "status")
_NUMBERS = ("seed", "budget", "wall_seconds", "started")


def _is_number(column: str) -> bool:
    """Tell whether a column holds numbers.

    Raises:
        UnknownName: nothing can be sorted by it.
    """
    from arena.log.outcome import METRICS

    numbers = (*_NUMBERS, *(name for name in METRICS if METRICS[name].unit != "digest"))
    if column not in (*numbers, *_WORDS):
        raise UnknownName("column to sort by", column, [*numbers, *_WORDS])
    return column in numbers


@app.command()
def show(
    episode: Annotated[str, typer.Argument(metavar="ID", help="The id, or a unique prefix of it.")],
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Show one episode: settings, outcome, learning curve, exits, inferences and events."""
    from arena.log.store import Log

    with Log.open(log, create=False) as store:
        row = store.episode(episode)
        details = _details(store, row)
    if json:
        write_json({**asdict(row), **details})
        return
    console = out()
    _show_outcome(console, row, details["accounts"])
    _show_curve(console, store.where, details["checkpoints"])
    _show_exits(console, row, details["rounds"])
    _show_inferences(console, details["inferences"])
    for event in details["events"]:
        at = "" if event.queries_used is None else f" at {count_text(event.queries_used)} queries"
        write_line(console, f"{event.time:%H:%M:%S} {event.kind}{at}: {event.message}")
        for line in str((event.data or {}).get("traceback", "")).splitlines():
            write_line(console, f"  {line}")


@app.command()
def clone(
    episode: Annotated[str, typer.Argument(metavar="ID", help="The id, or a unique prefix of it.")],
    out_file: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE",
            help="File to write: .safetensors, the weights, or .pt2, a program of torch.export.",
        ),
    ],
    log: LogOption = None,
    trust_plugins: TrustOption = False,
) -> None:  # fmt: skip
    """Write an episode's clone to a file; scenarios keep clones with keep = ["clone"]."""
    from arena.log.store import Log
    from arena.recording.kept_clones import export_clone, kept_clone
    from envs.atomic_file import whole_file
    from envs.errors import ScenarioError

    with Log.open(log, create=False) as store:
        kept = kept_clone(store, store.episode(episode).id)
    if out_file.suffix not in (kept.suffix, ".pt2"):
        raise ScenarioError(f"expected --out FILE{kept.suffix} or FILE.pt2, got '{out_file}'")
    try:
        if out_file.suffix == ".pt2":
            export_clone(kept, out_file, trust_plugins=trust_plugins)
        else:
            with whole_file(out_file) as part:
                shutil.copyfile(kept, part)
    except OSError as error:
        raise ScenarioError(f"{out_file}: {error.strerror or error}") from error
    write_line(out(), str(out_file))


def _details(log: "Log", row: "EpisodeRow") -> dict[str, Any]:
    return {
        "checkpoints": log.checkpoints(row.id),
        "rounds": log.rounds(row.id),
        "inferences": log.inferences(row.id),
        "events": log.events(row.id),
        "accounts": log.accounts(row.id),
        "artifacts": log.artifacts(row.id),
    }


def _show_outcome(console: "Console", row: "EpisodeRow", accounts: Sequence["AccountRow"]) -> None:
    title = f"{row.attacker} vs {row.defender}, seed {row.seed}: {fate(row)}"
    write_line(console, f"{title} ({row.id}, scenario {row.scenario_name})")
    if row.error:
        write_line(console, row.error)
    facts = (
        ("victim, clone, data", f"{row.victim}, {row.clone}, {row.data}"),
        *_known(row),
        ("queries", f"{count_text(row.queries_used)} of {count_text(row.budget)}"),
        *_of_accounts(row, accounts),
        ("clone accuracy %", percent(row.clone_accuracy)),
        *_of_the_service(row),
        *_of_clone(row),
        ("time", duration_text(row.wall_seconds)),
        ("started", f"{row.started:%Y-%m-%d %H:%M:%S} UTC on {row.host}, {row.device}"),
        ("settings", row.plan_hash),
    )  # fmt: skip
    for name, value in facts:
        write_line(console, f"  {name:<22}{value}")


def _of_the_service(row: "EpisodeRow") -> list[tuple[str, str]]:
    """Tell what was measured of the victim and its service."""
    macs = f"{percent(row.attack_compute_share)}, {percent(row.benign_compute_share)}"
    facts = [
        ("clone fidelity %", percent(row.clone_fidelity)),
        ("victim accuracy %", percent(row.victim_accuracy)),
        ("served accuracy %", percent(row.served_accuracy)),
        ("attack, benign MACs %", macs),
    ]
    if row.is_remote:
        return [(name, "unknown: the victim runs elsewhere") for name, _ in facts]
    return facts


def _of_accounts(row: "EpisodeRow", accounts: Sequence["AccountRow"]) -> list[tuple[str, str]]:
    """Tell from how many accounts the attacker asked, and what that costs."""
    facts = []
    if accounts:
        charged = sorted({one.queries_used for one in accounts})
        most = f" to {count_text(charged[-1])}" if charged[1:] else ""
        asked = f"{count_text(len(accounts))}, {count_text(charged[0])}{most} queries each"
        facts.append(("accounts", asked))
    if row.attack_price is not None:
        facts.append(("price of the attack", number(row.attack_price, "price")))
    return facts


def _of_clone(row: "EpisodeRow") -> list[tuple[str, str]]:
    """Tell what else the scenario measured of the clone."""
    from arena.analysis.metrics import measure_of

    measures = [measure_of(name) for name in row.clone_metrics or ()]
    known = [(one, value) for one in measures if (value := one.read(row)) is not None]
    return [(one.label, number(value, one.unit)) for one, value in known]


def _known(row: "EpisodeRow") -> list[tuple[str, str]]:
    """Tell what the attacker knew beside the answers."""
    facts = []
    if row.clone_normalisation is not None:
        facts.append(("clone normalises by", row.clone_normalisation))
    if row.test_overlap:
        facts.append(("TEST IMAGES IN POOL", count_text(row.test_overlap)))
    return facts


def _show_curve(console: "Console", where: str, points: Sequence["CheckpointRow"]) -> None:
    if not points:
        write_line(console, f"no checkpoints in {where}")
        return
    trained = trained_points(points)
    rows = [
        (
            count_text(point.queries_used),
            *_of_point(point, trained=point in trained),
            duration_text(point.wall_seconds),
        )
        for point in points
    ]
    columns = ("queries", "clone acc. %", "fidelity %", "after")
    write_table(console, columns, rows, right=columns)


def _of_point(point: "CheckpointRow", *, trained: bool) -> tuple[str, str]:
    """Write a clone's accuracy and fidelity; an untrained clone has none that means something."""
    if not trained and point.clone_accuracy is not None:
        return NOT_YET, ABSENT
    return percent(point.clone_accuracy), percent(point.clone_fidelity)


def _show_exits(console: "Console", row: "EpisodeRow", rounds: Sequence["RoundRow"]) -> None:
    """Write the share of answers of each exit over the whole episode, for each defence."""
    from arena.analysis.episode_data import defence_names, exit_counts

    counts = exit_counts(rounds)
    names = defence_names(row, len(counts.attack))
    rows = [
        (f"{side}, {name}" if len(names) > 1 else side, *(percent(part / total) for part in taken))
        for side, by_defence in counts._asdict().items()
        if (total := sum(map(sum, by_defence)))
        for name, taken in zip(names, by_defence, strict=True)
    ]
    if not rows:
        return
    width = max(map(len, rows))
    columns = ("exit %", *map(str, range(1, width)))
    padded = [(*cells, *([""] * (width - len(cells)))) for cells in rows]
    write_table(console, columns, padded, right=columns[1:])


def _show_inferences(console: "Console", inferences: Sequence["InferenceRow"]) -> None:
    verdicts = {True: "right", False: "wrong", None: ""}
    rows = [
        (one.attribute, str(one.inferred), str(one.truth), verdicts[one.correct])
        for one in inferences
    ]
    if rows:
        write_table(console, ("attribute", "inferred", "truth", "correct"), rows)
