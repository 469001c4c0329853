"""`arena compare`: two players, scenarios or runs, paired by seed."""

from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import JsonOption, LogOption, out
from arena.cli.effects import show_effects
from arena.cli.equal_service import show_equal_service
from arena.cli.filters import filtered
from arena.cli.render import write_json, write_line, write_table
from arena.report.formatting import digits, number
from envs.errors import ScenarioError

if TYPE_CHECKING:
    from arena.analysis.contrasts import Contrast
    from arena.analysis.intervals import Interval
    from arena.analysis.pairing import Meeting, Pairing
    from arena.log.episode_filter import EpisodeFilter


@filtered("scenario", "attacker", "defender", "run", "where", "since")
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="An attacker, defender, scenario "
                                                           "or run.")],
    second: Annotated[
        str | None,
        typer.Argument(metavar="[B]", help="Another of the same kind. Without it every other "
                                           "defender is held against the defender A."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="attacker, defender, scenario, run, or a setting such as threat.budget, whose "
            "values A and B are then. Default: found in the log.",
        ),
    ] = None,
    which: "EpisodeFilter | None" = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="Metric, such as served_accuracy; repeatable."),
    ] = None,
    half_width: Annotated[
        float | None,
        typer.Option(min=1e-9, max=1e9, help="Half-width to reach: 0.01 is one percentage point."),
    ] = None,
    equal_service: Annotated[
        bool,
        typer.Option("--equal-service", help="Compare two defences where both serve benign "
                                             "users equally well, along the knobs swept over."),
    ] = False,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Compare A and B seed by seed: intervals, a test, effect sizes, further seeds needed.

    With one name, such as undefended, tell what every other defender brings and costs beside it.
    """
    from arena.analysis.contrasts import DEFAULT_MEASURES
    from arena.analysis.pairing import pair
    from arena.log.store import Log

    if equal_service and (by or measure or half_width):
        raise ScenarioError(
            "--equal-service compares the clone accuracy of defences; leave out --by, --measure "
            "and --half-width"
        )
    if second is None and (by or measure or half_width or equal_service):
        raise ScenarioError(
            "expected two names with --by, --measure, --half-width or --equal-service, got one"
        )
    with Log.open(log, create=False) as store:
        episodes = store.episodes(which)
        if second is None:
            show_effects(episodes, first, json=json)
            return
        if equal_service:
            show_equal_service(episodes, first, second, json=json)
            return
        pairing = pair(
            episodes,
            first,
            second,
            by=by,
            measures=measure or DEFAULT_MEASURES,
            half_width=half_width,
        )
    if json:
        write_json(pairing.as_dict())
    else:
        _show(pairing)


def _show(pairing: "Pairing") -> None:
    console = out()
    for meeting in pairing.meetings:
        write_line(console, f"{pairing.sides}, {meeting.title}")
        _show_meeting(pairing, meeting)
    for line in pairing.left_out:
        write_line(console, f"left out: {line}")
    for line in _remarks(pairing):
        write_line(console, line)


_OPTIONAL = ("Cliff", "dz", "95 % bootstrap", "p", "more", "seeds")


def _show_meeting(pairing: "Pairing", meeting: "Meeting") -> None:
    if meeting.settings:
        hidden = len(meeting.settings) - 6
        more = f"; and {hidden} more" if hidden > 0 else ""
        write_line(console := out(), f"  settings differ: {'; '.join(meeting.settings[:6])}{more}")
    else:
        console = out()
    columns = ("measure", pairing.first, pairing.second, "difference", "95 % bootstrap", "95 % t",
               "p", "p Holm", "dz", "Cliff", "seeds", "more")  # fmt: skip
    lines = [_line(contrast) for contrast in meeting.contrasts]
    write_table(console, columns, lines, right=columns[1:], optional=_OPTIONAL)
    for contrast in meeting.contrasts:
        if contrast.at_chance is not None:
            write_line(console, f"  both at chance: a guess gets {100 * contrast.at_chance:.1f} %")


def _line(contrast: "Contrast") -> tuple[str, ...]:
    from arena.analysis.metrics import measure_of

    measure = measure_of(contrast.measure)
    scale = 100 if measure.unit in ("share", "points") else 1
    test, effect, t = contrast.paired.test, contrast.paired.effect, contrast.paired.difference

    def text(value: float | None, *, signed: bool = False) -> str:
        if value is None:
            return "-"
        plus = "+" if signed and value > 0 else ""
        return plus + (f"{scale * value:.1f}" if scale == 100 else digits(value))

    def between(ends: "Interval") -> str:
        if ends.low is None or ends.high is None:
            return "-"
        if ends.is_point:
            return "seeds alike"
        return f"{text(ends.low, signed=True)} to {text(ends.high, signed=True)}"

    return (
        measure.label + (" %" if scale == 100 else ""),
        text(contrast.first),
        text(contrast.second),
        text(contrast.bootstrap.mean, signed=True),
        between(contrast.bootstrap),
        between(t),
        f"{test.p:.3g}",
        f"{contrast.adjusted_p:.3g}",
        "-" if effect.cohens_dz is None else f"{effect.cohens_dz:.2f}",
        f"{effect.cliffs_delta:.2f}",
        str(len(contrast.paired.seeds)),
        "-" if contrast.more_seeds is None else str(contrast.more_seeds),
    )


def _remarks(pairing: "Pairing") -> list[str]:
    """List the remarks below the table."""
    from arena.analysis.paired_tests import NEEDS_PAIRS

    contrasts = [one for meeting in pairing.meetings for one in meeting.contrasts]
    if not contrasts:
        return ["none of these measures was taken on both sides"]
    pairs = min(len(one.paired.seeds) for one in contrasts)
    widths = sorted(set(map(_half_width, contrasts)))
    lines = [f"more: seeds still needed until the t interval is expected within "
             f"{' or '.join(widths)} to either side"]  # fmt: skip
    if any(one.more_seeds is None and len(one.paired.seeds) > 1 for one in contrasts):
        lines.append("more is '-' where all seeds are alike, which says nothing of others, and "
                     "where the test images alone leave more than that")  # fmt: skip
    if any(one.paired.gap.variance for one in contrasts):
        lines.append("both intervals of an accuracy hold the sampling of seeds and of test "
                     "images; p is about seeds on these very images")  # fmt: skip
    if pairs < NEEDS_PAIRS:
        lines.append(f"{pairs} {'pair' if pairs == 1 else 'pairs'} cannot give a p below "
                     f"{2 / 2**pairs:.3g}, however large the difference; "
                     f"play at least {NEEDS_PAIRS} seeds")  # fmt: skip
    if pairs < 10:
        lines.append("with fewer than ten pairs the bootstrap interval is too narrow; "
                     "read the t interval")  # fmt: skip
    if pairing.tests > 1:
        lines.append(f"p Holm: corrected by Holm for the {pairing.tests} p values shown here; "
                     f"p itself is not corrected")  # fmt: skip
    return lines


def _half_width(contrast: "Contrast") -> str:
    from arena.analysis.metrics import measure_of

    measure = measure_of(contrast.measure)
    if measure.unit in ("share", "points"):
        return _points(100 * contrast.half_width)
    return f"{number(contrast.half_width, measure.unit)} of {measure.label}"


def _points(count: float) -> str:
    return "1 point" if count == 1 else f"{count:g} points"
