"""Draws what copying each defence allows over what it takes from benign users, along its knob."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from arena.analysis.episode_data import EpisodeData
from arena.analysis.image_sampling import accuracy_interval
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.sweeps import BySeed, Setting, Sweep, sweeps_of
from arena.report.plots.style import (
    PERCENT,
    Drawing,
    Pen,
    legend_below,
    named_in,
    pen,
    percent,
    settings,
    sheet,
    shortened,
    whiskers,
)

Read = Callable[[Setting], BySeed]

WORTH_SERVING = 0.12
"""Settings that serve so much less than the best lie off the axis, which would crowd the others."""

CSV_COLUMNS = (
    "defence", "knob", "value", "defender", "best_attacker", "attackers", "seeds",
    "clone_accuracy", "clone_low", "clone_high", "served_accuracy", "served_low", "served_high",
    "distortion", "distortion_low", "distortion_high",
)  # fmt: skip


def draw_service(episode_data: EpisodeData) -> Drawing | None:
    """Draw the best clone over served accuracy and L1 distance; None where no knob was swept."""
    sweeps = swept(episode_data)
    if not sweeps:
        return None
    panels: list[tuple[str, Read, str]] = [
        ("accuracy served to benign users", lambda one: one.served, "better: down and right"),
        ("L1 distance of served answers", lambda one: one.distortion, "better: down and left"),
    ]
    panels = [panel for panel in panels if any(panel[1](one) for s in sweeps for one in s.settings)]
    names = shortened((sweep.name for sweep in sweeps), 30)
    with settings():
        figure, axes = sheet(len(panels), per_row=2, height=4, sharey=True)
        for ax, (label, read, hint) in zip(axes, panels, strict=True):
            for index, sweep in enumerate(sweeps):
                _draw_sweep(ax, sweep, read, pen(index), names[sweep.name])
            ax.set_title(hint, loc="left", color="#595959", fontsize=8)
            ax.set_xlabel(label)
            ax.yaxis.set_major_formatter(PERCENT)
            ax.margins(x=0.08)
            ax.set_ylim(0, 1.02)
        axes[0].xaxis.set_major_formatter(PERCENT)
        _keep_to_who_serves(axes[0], [one for sweep in sweeps for one in sweep.settings])
        axes[0].set_ylabel("clone accuracy, best attack of each seed")
        legend_below(figure, named_in(axes))
    return Drawing(
        "service",
        "Clone accuracy at equal service",
        "Each line is one defence along its knob: the best clone of each seed over the attackers, "
        "over the accuracy that benign users are served and over the mean L1 distance of served "
        "answers. Compare defences at the same place of the horizontal axis, and nowhere else. "
        "Whiskers are 95% intervals where there are several seeds.",
        "Line chart. " + " ".join(map(_sentence, sweeps)),
        figure,
        [CSV_COLUMNS, *(_row(sweep, one) for sweep in sweeps for one in sweep.settings)],
    )


def swept(episode_data: EpisodeData) -> list[Sweep]:
    """Give the defences of one scenario, if one of them was played at several settings."""
    if not episode_data.board:
        return []
    sweeps = sweeps_of(episode_data.board)
    return sweeps if any(sweep.knob for sweep in sweeps) else []


def _draw_sweep(ax: Axes, sweep: Sweep, read: Read, look: Pen, label: str) -> None:
    played = [one for one in sweep.settings if read(one)]
    if not played:
        return
    across = [mean_interval(list(read(one).values())) for one in played]
    up = [_accuracy(one.clone, one.images) for one in played]
    ax.errorbar(
        [one.mean for one in across],
        [one.mean for one in up],
        yerr=whiskers(up),
        color=look.colour,
        linestyle=look.dashes,
        marker=look.marker,
        markeredgecolor="white",
        markeredgewidth=0.6,
        elinewidth=0.8,
        capsize=2,
        label=label,
    )


def _keep_to_who_serves(ax: Axes, played: Sequence[Setting]) -> None:
    """End the axis where nobody would serve any more, and tell how many settings lie off it."""
    served = [mean_interval(list(one.served.values())).mean for one in played]
    best = max(served)
    few = sum(best - one > WORTH_SERVING for one in served)
    if few:
        ax.set_xlim(best - WORTH_SERVING, best + 0.05 * WORTH_SERVING)
        ax.set_title(f"{ax.get_title(loc='left')}; {few} serve less", color="#595959", fontsize=8)


def _sentence(sweep: Sweep) -> str:
    points = (
        f"{percent(mean_interval(list(one.served.values())).mean)} served, clone "
        f"{percent(mean_interval(list(one.clone.values())).mean)}"
        for one in sweep.settings
    )
    return f"{sweep.name}: {'; '.join(points)}."


def _row(sweep: Sweep, one: Setting) -> Sequence[object]:
    told: list[object] = [
        sweep.name, sweep.knob, "" if one.value is None else one.value, one.defender, one.worst,
        " ".join(one.attackers), len(one.clone),
    ]  # fmt: skip
    told += _cells(_accuracy(one.clone, one.images)) + _cells(_accuracy(one.served, one.images))
    distances = list(one.distortion.values())
    return told + _cells(mean_interval(distances).within(0, 2) if distances else None)


def _accuracy(values: BySeed, images: int | None) -> Interval:
    return accuracy_interval(list(values.values()), images)


def _cells(found: Interval | None) -> list[object]:
    if found is None:
        return ["", "", ""]
    return [found.mean, *("" if end is None else end for end in (found.low, found.high))]
