"""Makes the tables of docs/defences.md from the log of `arena run scenarios/defence_suite.toml`.

    python -m benchmarks.defence_table --log suite.db            prints them
    python -m benchmarks.defence_table --log suite.db --write    puts them into the page and the CSV

Rows and columns follow the scenario: whoever is added to it appears. Only episodes of the scenario
as it stands are read, and of one that was played twice the newest.
"""

import argparse
import csv
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from arena.log.rows import EpisodeRow
from arena.registry.players import defences
from arena.scenario import EpisodePlan
from benchmarks.defence_differences import differences
from benchmarks.defence_suite import SCENARIO, SERVED, Suite, read
from benchmarks.pages import ROOT, table, write_page
from envs.defences.base import Defence
from envs.errors import ArenaError

PAGE = ROOT / "docs" / "defences.md"
CSV = ROOT / "benchmarks" / "results" / "defence_suite.csv"
MAIN = ("dfme", "dfms-hl", "knockoff", "knockoff-hard")
"""Attackers with a column of their own; of the others the best is told."""

COLUMNS = (
    "defender", "attacker", "seed", "status", "queries_used", "clone_accuracy", "clone_fidelity",
    "victim_accuracy", "served_accuracy", "served_agreement", "distortion_mean", "distortion_p95",
    "attack_macs_mean", "benign_macs_mean", "full_macs", "attack_seconds_mean",
    "benign_seconds_mean", "harden_seconds", "query_digest", "answer_digest", "plan_hash",
    "git_commit", "device",
)  # fmt: skip


def tables(suite: Suite) -> str:
    """Write the tables in Markdown, with a line about their origin."""
    defenders = [one.name for one in suite.scenario.defenders]
    return "\n\n".join(
        [
            _origin(suite),
            table(CLONES_HEAD, [_clones(suite, name) for name in defenders]),
            table(SERVICE_HEAD, [_service(suite, name) for name in defenders]),
            differences(suite),
        ]
    )


CLONES_HEAD = (
    "defender", "DFME", "DFMS-HL", "Knockoff soft", "Knockoff hard", "best adaptive", "worst case",
)  # fmt: skip
SERVICE_HEAD = (
    "defender", "trained on", "served accuracy %", "agreement %", "L1 benign", "L1 benign OOD",
    "L1 attack", "MACs attack", "MACs benign", "µs attack", "µs benign", "harden s",
)  # fmt: skip


def _clones(suite: Suite, defender: str) -> list[str]:
    found = {
        one.name: values
        for one in suite.scenario.attackers
        if (values := list(suite.clones(defender, one.name).values()))
    }
    cells = [_share(found.get(name), bracket=suite.spared(defender, name)) for name in MAIN]
    adaptive = {name: values for name, values in found.items() if name not in MAIN}
    best = max(adaptive, key=lambda name: statistics.mean(adaptive[name]), default=None)
    if best is None:
        cells.append("—")
    else:
        cells.append(f"{_share(adaptive[best], bracket=suite.spared(defender, best))} {best}")
    worst = max(found, key=lambda name: statistics.mean(found[name]), default=None)
    cells.append("—" if worst is None else f"**{_percent(found[worst])}** {worst}")
    return [defender, *cells]


def _service(suite: Suite, defender: str) -> list[str]:
    episodes = suite.everywhere(defender)

    def mean(name: str, write: Callable[[float], str]) -> str:
        values = [value for one in episodes if (value := one.get(name)) is not None]
        return write(statistics.mean(values)) if values else "—"

    def both(kind: str) -> str:
        first = mean(f"{kind}_mean", "{:.2f}".format)
        return f"{first} ({mean(f'{kind}_p95', '{:.2f}'.format)})"

    full = next((one.row.full_macs for one in episodes if one.row.full_macs), 1)
    return [
        defender,
        next((trained_on(one.row) for one in suite.of(defender)), "—"),
        mean("served_accuracy", lambda value: f"{100 * value:.1f}"),
        mean("served_agreement", lambda value: f"{100 * value:.1f}"),
        both("distortion"),
        both("benign_ood_distortion"),
        both("attack_distortion"),
        mean("attack_macs_mean", lambda value: f"{value / full:.2f}"),
        mean("benign_macs_mean", lambda value: f"{value / full:.2f}"),
        mean("attack_seconds_mean", lambda value: f"{1e6 * value:.0f}"),
        mean("benign_seconds_mean", lambda value: f"{1e6 * value:.0f}"),
        _hardening(suite.hardening.get(defender, {})),
    ]


def trained_on(row: EpisodeRow) -> str:
    """Name the images, beyond the victim's own, that a defender's defences were trained on."""
    plan = EpisodePlan.model_validate(row.plan)
    sources: dict[str, None] = {}
    for brought in plan.defender.defence:
        defence = defences.create(brought.use, brought.params)
        assert isinstance(defence, Defence)
        sources |= dict.fromkeys(defence.trained_on)
    return ", ".join(sources) or "none"


def _hardening(seconds: Mapping[int, float]) -> str:
    return f"{statistics.mean(seconds.values()):.1f}" if seconds else "—"


def _share(values: Sequence[float] | None, *, bracket: bool) -> str:
    """Write a mean and the range of the seeds, in percent."""
    if not values:
        return "—"
    text = _percent(values)
    if len(values) > 1:
        text += f" ({100 * min(values):.0f}-{100 * max(values):.0f})"
    return f"[{text}]" if bracket else text


def _percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.0f}"


def _origin(suite: Suite) -> str:
    rows = [one.row for one in suite.episodes]
    seeds = sorted({row.seed for row in rows})
    commits = sorted({(row.git_commit or "unknown")[:12] for row in rows})
    versions = sorted({f"torch {(row.versions or {}).get('torch', 'unknown')}" for row in rows})
    devices = sorted({row.device or "unknown" for row in rows})
    text = (
        f"{len(rows)} episodes of `arena run scenarios/defence_suite.toml`, seeds "
        f"{', '.join(map(str, seeds))}, {', '.join(devices)}, {', '.join(versions)}, "
        f"commit {', '.join(commits)}."
    )
    if suite.missing:
        text += f" {suite.missing} episodes of the suite were not played for this table."
    return text


def write_csv(suite: Suite, path: Path = CSV) -> None:
    """Write a row for each episode."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, "trained_on", *SERVED])
        for one in suite.episodes:
            served = [one.served.get(name, "") for name in SERVED]
            figures = [getattr(one.row, name) for name in COLUMNS]
            writer.writerow([*figures, trained_on(one.row), *served])


def main() -> None:
    """Print the tables, or write them down."""
    parser = argparse.ArgumentParser(description="The tables of docs/defences.md.")
    parser.add_argument("--log", required=True, help="the log the suite was played into")
    parser.add_argument("--write", action="store_true", help="write them into the page and the CSV")
    asked = parser.parse_args()
    suite = read(asked.log)
    if not suite.episodes:
        raise SystemExit(
            f"no episode of {SCENARIO.name} in {asked.log}; play it first: "
            f"arena run scenarios/{SCENARIO.name} --log {asked.log}"
        )
    text = tables(suite)
    if asked.write:
        write_page(text, PAGE, mark="suite")
        write_csv(suite)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except ArenaError as error:
        raise SystemExit(str(error)) from None
