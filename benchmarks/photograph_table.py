"""Makes the tables of docs/photographs.md: of `arena run photographs`, and of `photographs_50k`.

    arena run photographs --log photographs.db
    python -m benchmarks.photograph_table --log photographs.db --write
    python -m benchmarks.photograph_table --log photographs.db --scenario photographs_50k --write

Rows and columns follow the scenario: whoever is added to it appears. Without --write they are
printed.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence

from arena.log.rows import EpisodeRow
from arena.log.store import Log
from benchmarks.attacker_table import RESULTS, by, newest, origin, publish, write_csv
from benchmarks.by_seed import minus
from benchmarks.defence_table import COLUMNS, trained_on
from benchmarks.dnf_table import COMPUTED, interval, worst_case
from benchmarks.pages import ROOT, table
from envs.errors import ArenaError

SCENARIOS = ("photographs", "photographs_50k")
PAGE = ROOT / "docs" / "photographs.md"
CONTROL = "knockoff"
BARE = "undefended"
SERVICE = (
    ("served accuracy %", "served_accuracy", 1.0),
    ("agreement with the victim %", "served_agreement", 1.0),
    ("compute per query of the pool %", "attack_compute_share", float("inf")),
)
"""What benign users and the server pay: title, figure, and what it cannot pass."""


def matrix(rows: Sequence[EpisodeRow], sources: Mapping[str, str]) -> str:
    """Write what every attacker got from every defender, the worst of it, and the service.

    Args:
        rows: of the scenario.
        sources: what each defender was trained on, by its name.
    """
    columns = {name: by(mine, "attacker") for name, mine in by(rows, "defender").items()}
    lines = [
        [f"`{attacker}`", *(_clones(groups.get(attacker, ())) for groups in columns.values())]
        for attacker in by(rows, "attacker")
    ]
    worst = [list(worst_case(mine).values()) for mine in by(rows, "defender").values()]
    lines.append(["**worst case**", *(f"**{_percent(each, 0, 1)}**" for each in worst)])
    lines.append(["worst case by seed", *(", ".join(f"{100 * w:.1f}" for w in e) for e in worst)])
    lines.append(["trained on", *(sources[name] for name in columns)])
    for title, figure, most in SERVICE:
        cells = [_figures(groups.get(CONTROL, ()), figure) for groups in columns.values()]
        lines.append([title, *(_percent(values, 0, most) for values in cells)])
    return table(["clone accuracy %", *columns], lines)


def differences(rows: Sequence[EpisodeRow]) -> str:
    """Write, seed by seed, what attackers are ahead of Knockoff, and what defences take away."""
    groups = {name: by(mine, "attacker") for name, mine in by(rows, "defender").items()}
    bare, lines = groups[BARE], []
    for attacker in bare:
        if attacker != CONTROL:
            gaps = minus(worst_case(bare[attacker]), worst_case(bare[CONTROL]))
            lines.append([f"`{attacker}` less `{CONTROL}`, {BARE}", _percent(gaps, -1, 1), ""])
    for name, mine in by(rows, "defender").items():
        if name == BARE:
            continue
        gaps = minus(*(worst_case(each) for each in _shared(by(rows, "defender")[BARE], mine)))
        served = minus(_served(bare[CONTROL]), _served(groups[name][CONTROL]))
        lines.append([f"worst case, {BARE} less `{name}`", _percent(gaps, -1, 1),
                      _percent(served, -1, 1)])  # fmt: skip
    return table(["difference, points", "clone accuracy", "served accuracy"], lines)


def taken(rows: Sequence[EpisodeRow]) -> str:
    """Write, seed by seed, how many points each defence takes from each attacker."""
    groups = {name: by(mine, "attacker") for name, mine in by(rows, "defender").items()}
    others = [name for name in groups if name != BARE]
    lines = []
    for attacker, bare in groups[BARE].items():
        sides = [worst_case(groups[name].get(attacker, ())) for name in others]
        gaps = [minus(worst_case(bare), side) for side in sides]
        lines.append([f"`{attacker}`", *(_percent(each, -1, 1) for each in gaps)])
    return table(["points less than undefended", *others], lines)


def _shared(*sides: Sequence[EpisodeRow]) -> list[list[EpisodeRow]]:
    """Leave out what was played on one side alone: the same attackers count, seed by seed."""
    both = set.intersection(*({(row.attacker, row.seed) for row in rows} for rows in sides))
    return [[row for row in rows if (row.attacker, row.seed) in both] for rows in sides]


def _served(rows: Iterable[EpisodeRow]) -> dict[int, float]:
    return {row.seed: row.served_accuracy for row in rows if row.served_accuracy is not None}


def _clones(rows: Iterable[EpisodeRow]) -> str:
    return _percent(_figures(rows, "clone_accuracy"), 0, 1)


def _figures(rows: Iterable[EpisodeRow], figure: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, figure)) is not None]


def _percent(values: Sequence[float], lowest: float, highest: float) -> str:
    return interval(values, lowest, highest) if values else "-"


def main() -> None:
    """Print the tables, or write them down."""
    parser = argparse.ArgumentParser(description="The tables of docs/photographs.md.")
    parser.add_argument("--log", required=True, help="the log that photographs was played into")
    parser.add_argument("--write", action="store_true", help="write them into the page and the CSV")
    parser.add_argument("--scenario", choices=SCENARIOS, default=SCENARIOS[0], help="which table")
    asked = parser.parse_args()
    with Log.open(asked.log, create=False) as log:
        rows = newest(log, asked.scenario)
    sources = {name: trained_on(mine[0]) for name, mine in by(rows, "defender").items()}
    text = f"{origin(rows, asked.scenario)}\n\n{matrix(rows, sources)}\n\n{taken(rows)}"
    text += f"\n\n{differences(rows)}"
    if asked.write:
        write_csv(rows, RESULTS / f"{asked.scenario}.csv", COLUMNS, COMPUTED)
    publish({asked.scenario: text}, PAGE, write=asked.write)


if __name__ == "__main__":
    try:
        main()
    except ArenaError as error:
        raise SystemExit(str(error)) from None
