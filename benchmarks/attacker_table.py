"""Makes the tables of docs/attackers.md from the logs of three scenarios.

    arena run attack_suite --log suite.db; arena run attack_suite_28 --log large.db
    arena run exit_timing --log clock.db
    python -m benchmarks.attacker_table --suite suite.db --large large.db --clock clock.db --write

Rows follow the scenarios: whoever is added to them appears. Without --write they are printed. Where
the log of attack_suite_28 holds ten seeds of some attackers, they get a table of their own:

    python -c "import arena; arena.run('attack_suite_28', log='large.db', seeds=range(10),
        attackers=['noise', 'random-generator', 'dfme', 'disguide', 'knockoff'])"
"""

import argparse
import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from arena.analysis.intervals import mean_interval
from arena.log.episode_filter import EpisodeFilter
from arena.log.rows import EpisodeRow
from arena.log.store import Log
from arena.scenario import load
from arena.scenario.given import scenario_of
from benchmarks.defence_table import COLUMNS
from benchmarks.pages import ROOT, percent, table, write_page
from envs.errors import ArenaError

PAGE = ROOT / "docs" / "attackers.md"
RESULTS = ROOT / "benchmarks" / "results"
SHARES = (0.1, 0.3, 0.5, 1.0)
"""Parts of the budget after which the clone is told."""

RANKED_SEEDS = range(10)
"""Seeds after which a difference is called one."""

MOST_SEEDS = 5
"""So many seeds are told one by one."""

CONTROL = "random-generator"
"""What a data-free attack has to beat to have earned its queries."""

CLOCK = ("exits_visited", "exits", "family", "depth", "exit_costs", "thresholds")
"""What the probe infers, in the table's order."""


def newest(log: Log, scenario: str, *, seeds: Iterable[int] | None = None) -> list[EpisodeRow]:
    """Read the successful episodes of a shipped scenario as it stands, in its order.

    Args:
        log: that it was played into.
        scenario: its name.
        seeds: instead of its own.

    Raises:
        ArenaError: the log has none.
    """
    asked = scenario_of(scenario, None, None, seeds, {}, apart=False)
    plans = [plan.hash for plan in asked.plans()]
    found = {
        row.plan_hash: row
        for row in log.episodes(EpisodeFilter(status="success", kind="play", newest_first=False))
    }
    rows = [found[name] for name in plans if name in found]
    if not rows:
        raise ArenaError(
            f"no episode of {scenario} as it stands in {log.where}; play it first: "
            f"arena run {scenario} --log {log.where}"
        )
    return rows


def over_budget(log: Log, rows: Sequence[EpisodeRow]) -> str:
    """Write clone accuracy by budget of every attacker on the undefended victim.

    The last column is what it is ahead of the control, seed by seed.
    """
    mine = [row for row in rows if row.defender == "undefended"]
    groups = by(mine, "attacker")
    floor = {row.seed: row.clone_accuracy for row in groups.get(CONTROL, ())}
    lines = []
    for attacker, episodes in groups.items():
        curves = [_curve(log, row) for row in episodes]
        cells = [_percent([curve.get(share) for curve in curves]) for share in SHARES]
        gaps = [_ahead(row, floor) for row in episodes]
        ahead = "" if attacker == CONTROL else _percent(gaps, bounds=(-1, 1))
        lines.append([f"`{attacker}`", *cells, _seeds(episodes), ahead])
    budget = mine[0].budget or 0 if mine else 0
    counts = (f"{round(share * budget):,}" for share in SHARES)
    return table(["attacker", *counts, "by seed", f"ahead of `{CONTROL}`"], lines)


def ranked(log: Log, scenario: str) -> list[EpisodeRow]:
    """Read the episodes of the attackers that played all of `RANKED_SEEDS`."""
    rows = newest(log, scenario, seeds=RANKED_SEEDS)
    full = {name for name, own in by(rows, "attacker").items() if len(own) == len(RANKED_SEEDS)}
    return [row for row in rows if row.attacker in full]


def _ahead(row: EpisodeRow, floor: Mapping[int, float | None]) -> float | None:
    below = floor.get(row.seed)
    return None if below is None or row.clone_accuracy is None else row.clone_accuracy - below


def against(rows: Sequence[EpisodeRow], defender: str) -> str:
    """Write what every attacker reached against a defender, beside the undefended victim."""
    plain, lines = by([row for row in rows if row.defender == "undefended"], "attacker"), []
    for attacker, episodes in by([r for r in rows if r.defender == defender], "attacker").items():
        before = [row.clone_accuracy for row in plain.get(attacker, ())]
        compute = [row.attack_compute_share for row in episodes]
        now = [row.clone_accuracy for row in episodes]
        lines.append([f"`{attacker}`", _percent(before), _percent(now), _seeds(episodes),
                      _percent(compute, bounds=(0, math.inf))])  # fmt: skip
    return table(["attacker", "undefended", f"`{defender}`", "by seed", "compute"], lines)


def clock(log: Log, rows: Sequence[EpisodeRow]) -> str:
    """Write how often the probe was right about each attribute, by defender."""
    lines = []
    for defender, episodes in by(rows, "defender").items():
        found = [{one.attribute: one for one in log.inferences(row.id)} for row in episodes]
        cells = []
        for name in CLOCK:
            told = [one[name] for one in found if name in one]
            known = [one for one in told if one.inferred is not None]
            right = sum(bool(one.correct) for one in known)
            cells.append(f"{right}" if known else "*unknown*")
        lines.append([defender, str(len(episodes)), *cells])
    head = ["defender", "seeds", "exits seen", "exits that exist", "family", "depth", "costs",
            "thresholds"]  # fmt: skip
    return table(head, lines)


def origin(rows: Sequence[EpisodeRow], scenario: str, *, part: bool = False) -> str:
    """Say where a table's figures come from; of a part of a scenario not what was left out."""
    missing = 0 if part else load(scenario).size - len(rows)
    parts = {
        "seeds": sorted({str(row.seed) for row in rows}, key=int),
        "commit": sorted({(row.git_commit or "unknown")[:12] for row in rows}),
        "torch": sorted({str((row.versions or {}).get("torch", "unknown")) for row in rows}),
        "on": sorted({row.device or "unknown" for row in rows}),
    }
    told = ", ".join(f"{name} {', '.join(values)}" for name, values in parts.items())
    text = f"{len(rows)} episodes of `arena run {scenario}`, {told}."
    return text + (f" {missing} of the scenario were not played." if missing > 0 else "")


def write_csv(
    rows: Iterable[EpisodeRow],
    path: Path,
    columns: Sequence[str] = COLUMNS,
    computed: Mapping[str, Callable[[EpisodeRow], object]] = MappingProxyType({}),
) -> None:
    """Write a row for each episode: columns of the log, and some that are computed from it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns, *computed])
        for row in rows:
            told = [compute(row) for compute in computed.values()]
            writer.writerow([*(getattr(row, name) for name in columns), *told])


def write_inferences(log: Log, rows: Iterable[EpisodeRow], path: Path) -> None:
    """Write a row for each thing the probe said."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["defender", "seed", "attribute", "inferred", "truth", "correct",
                         "confidence"])  # fmt: skip
        for row in rows:
            for one in log.inferences(row.id):
                writer.writerow([row.defender, row.seed, one.attribute, one.inferred, one.truth,
                                 one.correct, one.confidence])  # fmt: skip


def by(rows: Iterable[EpisodeRow], field: str) -> dict[str, list[EpisodeRow]]:
    """Group rows by a field, in the order they come."""
    groups: dict[str, list[EpisodeRow]] = {}
    for row in rows:
        groups.setdefault(getattr(row, field), []).append(row)
    return groups


def _curve(log: Log, row: EpisodeRow) -> Mapping[float, float | None]:
    """Give the clone's accuracy by share of the budget; the end is the episode's own."""
    curve = {
        round(point.queries_used / (row.budget or 1), 1): point.clone_accuracy
        for point in log.checkpoints(row.id)
    }
    return {**curve, 1.0: row.clone_accuracy}


def _percent(values: Sequence[float | None], *, bounds: tuple[float, float] = (0, 1)) -> str:
    """Write mean and t interval in percent, no wider than what a mean can be.

    A dash where nothing was measured.
    """
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return percent(mean_interval(known).within(*bounds))


def _seeds(rows: Sequence[EpisodeRow]) -> str:
    """Write each seed's figure, or where there are many the lowest and the highest."""
    told = [None if row.clone_accuracy is None else 100 * row.clone_accuracy for row in rows]
    known = [value for value in told if value is not None]
    if len(known) > MOST_SEEDS:
        return f"from {min(known):.1f} to {max(known):.1f}"
    return ", ".join("-" if value is None else f"{value:.1f}" for value in told)


def publish(tables: Mapping[str, str], page: Path, *, write: bool) -> None:
    """Print tables by their marks, and put them into a page where that is asked for."""
    for mark, text in tables.items():
        if write:
            write_page(text, page, mark=mark)
        print(f"{text}\n")


def main() -> None:
    """Print the tables, or write them down."""
    parser = argparse.ArgumentParser(description="The tables of docs/attackers.md.")
    parser.add_argument("--suite", help="the log that attack_suite was played into")
    parser.add_argument("--large", help="the log that attack_suite_28 was played into")
    parser.add_argument("--clock", help="the log that exit_timing was played into")
    parser.add_argument("--write", action="store_true", help="write them into the page and the CSV")
    asked = parser.parse_args()
    made: dict[str, str] = {}
    if asked.suite:
        with Log.open(asked.suite, create=False) as log:
            rows = newest(log, "attack_suite")
            about = origin(rows, "attack_suite")
            made["budget"] = f"{about}\n\n{over_budget(log, rows)}"
            made["fortress"] = f"{about}\n\n{against(rows, 'dnf')}"
        if asked.write:
            write_csv(rows, RESULTS / "attack_suite.csv")
    if asked.large:
        with Log.open(asked.large, create=False) as log:
            rows = newest(log, "attack_suite_28")
            made["large"] = f"{origin(rows, 'attack_suite_28')}\n\n{over_budget(log, rows)}"
            if more := ranked(log, "attack_suite_28"):
                made["ranked"] = (
                    f"{origin(more, 'attack_suite_28', part=True)}\n\n{over_budget(log, more)}"
                )
        if asked.write:
            others = {row.id for row in rows}
            rows += [row for row in more if row.id not in others]
            write_csv(rows, RESULTS / "attack_suite_28.csv")
    if asked.clock:
        with Log.open(asked.clock, create=False) as log:
            rows = newest(log, "exit_timing")
            made["clock"] = f"{origin(rows, 'exit_timing')}\n\n{clock(log, rows)}"
            if asked.write:
                write_inferences(log, rows, RESULTS / "exit_timing.csv")
    publish(made, PAGE, write=asked.write)


if __name__ == "__main__":
    try:
        main()
    except ArenaError as error:
        raise SystemExit(str(error)) from None
