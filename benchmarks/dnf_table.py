"""Makes the tables of docs/dnf.md from the logs of the fortress's scenarios.

    arena run dnf_digits --log digits.db
    for name in dnf_plus dnf_plus_labelled dnf_plus_strict; do arena run $name --log plus.db; done
    arena run dnf_plus_adaptive --log adaptive.db
    python -m benchmarks.dnf_table --digits digits.db --plus plus.db --adaptive adaptive.db --write

Rows and columns follow the scenarios: whoever is added to them appears. Without --write they are
printed.
"""

import argparse
from collections.abc import Mapping, Sequence
from math import inf

from arena.analysis.intervals import mean_interval
from arena.log.rows import EpisodeRow
from arena.log.store import Log
from benchmarks.attacker_table import by, newest, origin, publish, write_csv
from benchmarks.by_seed import minus
from benchmarks.defence_table import COLUMNS, trained_on
from benchmarks.pages import ROOT, table
from envs.errors import ArenaError

PAGE = ROOT / "docs" / "dnf.md"
RESULTS = ROOT / "benchmarks" / "results"
CSV_COLUMNS = ("scenario_name", *COLUMNS)
COMPUTED = {"trained_on": trained_on}
PLUS = ("dnf_plus", "dnf_plus_labelled", "dnf_plus_strict")
STRICT = "dnf_plus-strict"
"""Column of the last scenario, whose defender is `dnf_plus` at another price."""

WITH_SOURCE = ("guard-surrogate", "rule-finder")
"""Attackers that were written with the source of `dnf_plus` at hand."""

CONTROL = "knockoff"
"""What attackers that know `dnf_plus` have to beat: the same pool and clone without their idea."""

PROPORTIONS = ("clone_accuracy", "served_accuracy", "served_agreement")
"""Figures that cannot pass 100 %; the part of an interval that lies outside is not written."""

SERVICE = (
    ("served accuracy %", "knockoff", "served_accuracy"),
    ("agreement with the victim %", "knockoff", "served_agreement"),
    ("L1 distance", "knockoff", "distortion_mean"),
    ("compute per benign query %", "knockoff", "benign_compute_share"),
    ("compute per query of strokes %", "knockoff", "attack_compute_share"),
    ("compute per query of DFME %", "dfme", "attack_compute_share"),
)
"""What benign users and the server pay: title, whose episodes tell it, the figure."""


def digits(rows: Sequence[EpisodeRow], sources: Mapping[str, str]) -> str:
    """Write what every variant did to DFME and to noise, and what it cost.

    Args:
        rows: of `dnf_digits`.
        sources: what each defender was trained on, by its name.
    """
    lines = []
    for defender, mine in by(rows, "defender").items():
        attackers = by(mine, "attacker")
        dfme, noise = attackers.get("dfme", []), attackers.get("noise", [])
        lines.append([
            defender, sources[defender],
            _cell(dfme, "clone_accuracy"), _cell(noise, "clone_accuracy"),
            _cell(dfme, "served_accuracy"), _cell(dfme, "attack_compute_share"),
            _cell(dfme, "benign_compute_share"), _by_seed(_clones(dfme)),
        ])  # fmt: skip
    head = ["defender", "trained on", "DFME's clone %", "noise's clone %", "served accuracy %",
            "compute per DFME query %", "compute per benign query %",
            "DFME's clone by seed %"]  # fmt: skip
    return table(head, lines)


def plus(rows: Sequence[EpisodeRow], sources: Mapping[str, str]) -> str:
    """Write what every attacker got from every fortress, the worst of it, and the service.

    Args:
        rows: of all three scenarios.
        sources: what each defender was trained on, by its name.
    """
    columns = _columns(rows)
    groups = {name: by(mine, "attacker") for name, mine in columns.items()}
    lines = [
        [attacker, *(_cell(groups[n].get(attacker, []), "clone_accuracy") for n in columns)]
        for attacker in by(rows, "attacker")
    ]
    worst = {name: list(worst_case(mine).values()) for name, mine in columns.items()}
    lines.append(["**worst case**", *(f"**{interval(w, 0, 1)}**" for w in worst.values())])
    lines.append(["worst case by seed", *(_by_seed(w) for w in worst.values())])
    lines.append(["*benign users*", *("" for _ in columns)])
    lines.append(["trained on", *(sources[mine[0].defender] for mine in columns.values())])
    for title, attacker, figure in SERVICE:
        cells = (_cell(groups[name].get(attacker, []), figure) for name in columns)
        lines.append([title, *cells])
    return table(["clone accuracy %", *columns], lines)


def worst_case(rows: Sequence[EpisodeRow]) -> dict[int, float]:
    """Return the best clone of each seed over all attackers."""
    worst: dict[int, float] = {}
    for row in sorted(rows, key=lambda row: row.seed):
        worst[row.seed] = max(worst.get(row.seed, 0.0), row.clone_accuracy or 0.0)
    return worst


def differences(rows: Sequence[EpisodeRow]) -> str:
    """Write how much better the best clone is elsewhere than against `dnf_plus`, seed by seed."""
    columns = _columns(rows)
    pairs = (("undefended", "dnf_plus"), ("intended", "dnf_plus"), ("released", "dnf_plus"),
             ("released-fixed", "dnf_plus"), ("released-fixed", STRICT))  # fmt: skip
    lines = []
    for left, right in pairs:
        if left not in columns or right not in columns:
            continue
        clone = minus(worst_case(columns[left]), worst_case(columns[right]))
        served = minus(_benign(columns[left]), _benign(columns[right]))
        told = (interval(values) if values else "-" for values in (clone, served))
        lines.append([f"{left} less {right}", *told])
    return table(["difference, seed by seed", "worst case", "served accuracy"], lines)


def adaptive(rows: Sequence[EpisodeRow]) -> str:
    """Write what attackers with the source of `dnf_plus` get, and what they are ahead of Knockoff.

    Args:
        rows: of `dnf_plus_adaptive`.
    """
    groups = {name: by(mine, "attacker") for name, mine in by(rows, "defender").items()}
    lines = []
    for attacker in by(rows, "attacker"):
        cells = [_cell(mine.get(attacker, []), "clone_accuracy") for mine in groups.values()]
        for mine in groups.values():
            gaps = minus(worst_case(mine.get(attacker, [])), worst_case(mine[CONTROL]))
            cells.append("" if attacker == CONTROL or not gaps else interval(gaps))
        last = groups.get("dnf_plus", {}).get(attacker, [])
        lines.append([f"`{attacker}`", *cells, _by_seed(_clones(last))])
    ahead = [f"{name}: ahead of {CONTROL}" for name in groups]
    return table(["clone accuracy %", *groups, *ahead, "dnf_plus by seed"], lines)


def source_worth(rows: Sequence[EpisodeRow]) -> str:
    """Write the best clone of each seed without and with the attackers that know the source.

    Args:
        rows: of `dnf_plus_adaptive`.
    """
    groups = by(rows, "defender")
    without = {name: worst_case([row for row in mine if row.attacker not in WITH_SOURCE])
               for name, mine in groups.items()}  # fmt: skip
    all_of_them = {name: worst_case(mine) for name, mine in groups.items()}
    lines = []
    for title, worst in (("without the source", without), ("with it", all_of_them)):
        cells = [interval(list(one.values()), 0, 1) for one in worst.values()]
        lost = minus(worst.get("undefended", {}), worst.get("dnf_plus", {}))
        lines.append([title, *cells, interval(lost) if lost else ""])
    more = [interval(minus(all_of_them[name], without[name])) for name in groups]
    lines.append(["more with it", *more, ""])
    return table(["best clone of each seed %", *groups, "undefended less dnf_plus"], lines)


def _sources(rows: Sequence[EpisodeRow]) -> dict[str, str]:
    return {defender: trained_on(mine[0]) for defender, mine in by(rows, "defender").items()}


def _columns(rows: Sequence[EpisodeRow]) -> dict[str, list[EpisodeRow]]:
    strict = [row for row in rows if row.scenario_name == PLUS[-1]]
    columns = by([row for row in rows if row.scenario_name != PLUS[-1]], "defender")
    return columns | ({STRICT: strict} if strict else {})


def _benign(rows: Sequence[EpisodeRow]) -> dict[int, float]:
    mine = [row for row in rows if row.attacker == "knockoff"]
    return {row.seed: row.served_accuracy for row in mine if row.served_accuracy is not None}


def _clones(rows: Sequence[EpisodeRow]) -> list[float]:
    return [row.clone_accuracy for row in rows if row.clone_accuracy is not None]


def _cell(rows: Sequence[EpisodeRow], figure: str) -> str:
    values = [value for row in rows if (value := getattr(row, figure)) is not None]
    if not values:
        return "-"
    if figure == "distortion_mean":
        return interval(values, 0, 2, scale=1, decimals=3)
    return interval(values, 0, 1 if figure in PROPORTIONS else inf)


def interval(
    values: Sequence[float], lowest: float = -inf, highest: float = inf, *, scale: float = 100,
    decimals: int = 1,
) -> str:  # fmt: skip
    """Write mean and t interval, the latter cut off where the figure itself cannot lie."""
    found = mean_interval(values)
    text = f"{scale * found.mean:.{decimals}f}"
    if found.low is None or found.high is None:
        return text
    low, high = max(found.low, lowest), min(found.high, highest)
    return f"{text} [{scale * low:.{decimals}f}, {scale * high:.{decimals}f}]"


def _by_seed(values: Sequence[float]) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in values)


def main() -> None:
    """Print the tables, or write them down."""
    parser = argparse.ArgumentParser(description="The tables of docs/dnf.md.")
    parser.add_argument("--digits", help="the log that dnf_digits was played into")
    parser.add_argument("--plus", help=f"the log that {', '.join(PLUS)} were played into")
    parser.add_argument("--adaptive", help="the log that dnf_plus_adaptive was played into")
    parser.add_argument("--write", action="store_true", help="write them into the page and the CSV")
    asked = parser.parse_args()
    made: dict[str, str] = {}
    if asked.digits:
        with Log.open(asked.digits, create=False) as log:
            rows = newest(log, "dnf_digits")
        made["digits"] = f"{origin(rows, 'dnf_digits')}\n\n{digits(rows, _sources(rows))}"
        if asked.write:
            write_csv(rows, RESULTS / "dnf_digits.csv", CSV_COLUMNS, COMPUTED)
    if asked.plus:
        with Log.open(asked.plus, create=False) as log:
            played = {name: newest(log, name) for name in PLUS}
        about = "\n".join(origin(mine, name) for name, mine in played.items())
        rows = [row for mine in played.values() for row in mine]
        made["plus"] = f"{about}\n\n{plus(rows, _sources(rows))}\n\n{differences(rows)}"
        if asked.write:
            write_csv(rows, RESULTS / "dnf_plus.csv", CSV_COLUMNS, COMPUTED)
    if asked.adaptive:
        with Log.open(asked.adaptive, create=False) as log:
            rows = newest(log, "dnf_plus_adaptive")
        about = origin(rows, "dnf_plus_adaptive")
        made["adaptive"] = f"{about}\n\n{adaptive(rows)}\n\n{source_worth(rows)}"
        if asked.write:
            write_csv(rows, RESULTS / "dnf_plus_adaptive.csv", CSV_COLUMNS, COMPUTED)
    publish(made, PAGE, write=asked.write)


if __name__ == "__main__":
    try:
        main()
    except ArenaError as error:
        raise SystemExit(str(error)) from None
