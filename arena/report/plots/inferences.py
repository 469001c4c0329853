"""Draws what attackers found out about the victim, and how their confidence fits that."""

from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import PercentFormatter

from arena.analysis.episode_data import EpisodeData
from arena.analysis.inferring import Calibration, Inferred, Verdicts
from arena.report.formatting import counted
from arena.report.plots.heat import draw_heat, heat_height
from arena.report.plots.style import (
    GREY,
    Drawing,
    legend_below,
    named_in,
    pen,
    percent,
    settings,
    sheet,
    short,
    whiskers,
)

PANELS = 6
"""Attackers that are drawn; the table has them all."""


LEAST = 10
"""Statements with a confidence below which a calibration says nothing."""


def draw_inferences(episode_data: EpisodeData) -> Drawing | None:
    """Draw attributes by defender for each attacker; None where none said anything."""
    found = episode_data.inferred[:PANELS]
    if not found:
        return None
    rest = len(episode_data.inferred) - len(found)
    more = f" {counted(rest, 'attacker')} more: in the table below." if rest else ""
    tables = [(_attributes(one), list(one.verdicts)) for one in found]
    heights = [heat_height(rows, columns, lines=2) for rows, columns in tables]
    with settings():
        figure, axes = sheet(
            len(found),
            per_row=1,
            height=sum(heights) / len(found),
            gridspec_kw={"height_ratios": heights},
        )
        for ax, one, (rows, columns) in zip(axes, found, tables, strict=True):
            values = np.array([[_share(one, column, row) for column in columns] for row in rows])
            texts = [[_lines(one.verdicts[column].get(row)) for column in columns] for row in rows]
            labels = [row.replace("_", " ") for row in rows]
            mesh = draw_heat(ax, values, texts, rows=labels, columns=columns)
            ax.set_title(short(one.attacker, 60))
        bar = figure.colorbar(mesh, ax=axes, fraction=0.035, pad=0.02)
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
        bar.set_label("share that was right")
    return Drawing(
        "inferences",
        "What the attackers found out",
        "For each attribute of the victim and each defender: episodes in which the attacker was "
        "right, of all in which there was something to find out, and under it how many of them it "
        "left unknown, where there is room. Dark squares are good for the defender." + more,
        "Tables of squares. " + " ".join(map(_sentence, found)),
        figure,
    )


def _attributes(one: Inferred) -> list[str]:
    return list(dict.fromkeys(name for verdicts in one.verdicts.values() for name in verdicts))


def _share(one: Inferred, defender: str, attribute: str) -> float:
    counts = one.verdicts[defender].get(attribute)
    return counts.right / counts.judged if counts else float("nan")


def _lines(counts: Verdicts | None) -> tuple[str, ...]:
    if counts is None:
        return ()
    right = f"{counts.right}/{counts.judged}"
    return (right, f"{counts.unknown} unknown") if counts.unknown else (right,)


def _sentence(one: Inferred) -> str:
    told = (f"{defender}: {_all(verdicts)}" for defender, verdicts in one.verdicts.items())
    return f"{one.attacker}, right of all: {'; '.join(told)}."


def _all(verdicts: Mapping[str, Verdicts]) -> str:
    right, judged = (sum(getattr(one, name) for one in verdicts.values())
                     for name in ("right", "judged"))  # fmt: skip
    return f"{right} of {judged}"


def draw_calibration(episode_data: EpisodeData) -> Drawing | None:
    """Draw how often attackers were right at which confidence; None where too few gave one."""
    found = [
        (one.attacker, one.calibration)
        for one in episode_data.inferred
        if one.calibration is not None and one.calibration.n >= LEAST
    ]
    if not found:
        return None
    with settings():
        figure, (ax,) = sheet(1, per_row=1, height=3.0)
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="as sure as right")
        for index, (attacker, calibration) in enumerate(found):
            look = pen(index)
            right = [one.right for one in calibration.bins]
            ax.errorbar(
                [one.confidence for one in calibration.bins],
                [score.mean for score in right],
                yerr=whiskers(right),
                color=look.colour,
                linestyle=look.dashes,
                marker=look.marker,
                elinewidth=0.9,
                capsize=2,
                label=f"{short(attacker, 24)}: off by {percent(calibration.error)}",
            )
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(-0.02, 1.05)
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.set_xlabel("own confidence")
        ax.set_ylabel("share that was right")
        legend_below(figure, named_in([ax]))
    return Drawing(
        "calibration",
        "How sure the attackers were, and how right",
        "What was said with a confidence in each fifth of the scale: how often it was right, with "
        "Wilson's 95% interval. Below the dotted line the attacker is too sure. Off by: the mean "
        "distance from that line (expected calibration error). What was left unknown does not "
        "count here.",
        "Line chart. " + " ".join(_told(*one) for one in found),
        figure,
    )


def _told(attacker: str, calibration: Calibration) -> str:
    return (
        f"{attacker}: expected calibration error {percent(calibration.error)}, Brier score "
        f"{calibration.brier:.3f}, {calibration.n} statements."
    )
