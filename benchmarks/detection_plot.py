"""Draws how well fortresses detect a source of images over what they take from who asks those.

    python -m benchmarks.detection_plot        draws docs/detection.png

Both sides are read from benchmarks/results: detection from ood_detection.csv, clones from the files
of the scenarios. So it is drawn anew whenever one of them is, without a log.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from arena.analysis.intervals import Interval, mean_interval
from arena.report.plots.style import (
    PERCENT,
    Drawing,
    legend_below,
    named_in,
    pen,
    save,
    settings,
    sheet,
    whiskers,
)
from benchmarks.attacker_table import RESULTS
from benchmarks.ood_detection import Row, read_rows
from benchmarks.pages import ROOT

PATH = ROOT / "docs" / "detection.png"
BARE = "undefended"


@dataclass(frozen=True, slots=True)
class Meeting:
    """A fortress whose detection and whose protection were both measured.

    Args:
        world, fortress, source: as in ood_detection.csv.
        clones: the file of the scenario.
        defender: its name there.
        attackers: whose best clone counts, seed by seed; all of the file if none is named.
    """

    world: str
    fortress: str
    source: str
    clones: str
    defender: str
    attackers: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What the figure calls it."""
        return f"{self.world}: {self.fortress}, {self.source}"


MEETINGS = (
    Meeting("digits", "plain", "generator", "dnf_digits", "plain", ("dfme",)),
    Meeting("digits", "dnf", "generator", "dnf_digits", "intended-M", ("dfme",)),
    Meeting("digits", "dnf", "strokes", "dnf_plus", "intended"),
    Meeting("digits", "dnf_plus", "strokes", "dnf_plus", "dnf_plus"),
    Meeting("photographs", "dnf", "tiny-imagenet", "photographs", "dnf"),
    Meeting("photographs", "dnf-natural", "tiny-imagenet", "photographs", "dnf-natural"),
    Meeting("photographs", "dnf_plus", "tiny-imagenet", "photographs", "dnf_plus"),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One of them, measured.

    Attributes:
        auroc: of the exit, over seeds.
        early: share of the source's images that leave early, over seeds.
        taken: of the best clone's accuracy, against the bare victim, seed by seed.
    """

    meeting: Meeting
    auroc: Interval
    early: Interval
    taken: Interval


def points(
    detection: Sequence[Row], clones: Mapping[str, Sequence[Mapping[str, str]]]
) -> Iterator[Point]:
    """Bring both sides together; what was not measured on both is left out.

    Args:
        detection: rows of ood_detection.csv.
        clones: rows of each scenario's file, by its name.
    """
    for one in MEETINGS:
        key = (one.world, one.fortress, one.source)
        seen = [row for row in detection if (row.world, row.defence, row.source) == key]
        rows = clones.get(one.clones, ())
        bare, left = (_clones(rows, name, one.attackers) for name in (BARE, one.defender))
        both = bare.keys() & left.keys()  # the same attackers count, seed by seed
        before, after = (_best(side, both) for side in (bare, left))
        seeds = sorted(before)
        if seen and seeds:
            yield Point(
                one,
                mean_interval([row.auroc_exit for row in seen]).within(0, 1),
                mean_interval([row.early for row in seen]).within(0, 1),
                mean_interval([before[seed] - after[seed] for seed in seeds]).within(-1, 1),
            )


Game = tuple[str, str]
"""Seed and attacker, as the files have them."""


def _clones(
    rows: Sequence[Mapping[str, str]], defender: str, attackers: Sequence[str]
) -> dict[Game, float]:
    return {
        (row["seed"], row["attacker"]): float(row["clone_accuracy"])
        for row in rows
        if row["defender"] == defender and row["clone_accuracy"]
        and (not attackers or row["attacker"] in attackers)
    }  # fmt: skip


def _best(clones: Mapping[Game, float], games: Set[Game]) -> dict[str, float]:
    """Return the best clone of each seed."""
    best: dict[str, float] = {}
    for seed, attacker in games:
        best[seed] = max(best.get(seed, 0.0), clones[seed, attacker])
    return best


def draw(found: Sequence[Point]) -> Drawing:
    """Draw protection over detection: over the AUROC of the exit, and over who leaves early."""
    with settings():
        figure, axes = sheet(2, per_row=2, height=3.4, sharey=True)
        for index, point in enumerate(found):
            colour, _, marker = pen(index)
            for ax, x in zip(axes, (point.auroc, point.early), strict=True):
                ax.errorbar(
                    [x.mean], [point.taken.mean], xerr=whiskers([x]), yerr=whiskers([point.taken]),
                    color=colour, marker=marker, linestyle="none", elinewidth=0.9,
                    label=point.meeting.label,
                )  # fmt: skip
        axes[0].set_xlabel("AUROC of the exit, source against own images")
        axes[0].set_ylabel("taken from the best clone")
        axes[1].set_xlabel("share of the source that leaves early")
        axes[1].xaxis.set_major_formatter(PERCENT)
        axes[0].yaxis.set_major_formatter(PERCENT)
        legend_below(figure, named_in(axes))
    return Drawing(
        "detection",
        "Protection over detection",
        "Each mark is a fortress and a source of attack images, means with 95% intervals.",
        "Scatter. " + " ".join(map(_sentence, found)),
        figure,
    )


def _sentence(point: Point) -> str:
    return (
        f"{point.meeting.label}: AUROC {point.auroc.mean:.3f}, {100 * point.early.mean:.0f}% leave "
        f"early, {100 * point.taken.mean:.1f} points taken."
    )


def main() -> None:
    """Draw the figure from what lies in benchmarks/results."""
    clones = {}
    for name in {one.clones for one in MEETINGS}:
        path = RESULTS / f"{name}.csv"
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                clones[name] = list(csv.DictReader(file))
    found = list(points(read_rows(), clones))
    print("\n".join(map(_sentence, found)))
    save(draw(found), PATH)


if __name__ == "__main__":
    main()
