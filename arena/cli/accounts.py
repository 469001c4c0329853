"""`arena accounts`: how many accounts each attack needs, and what it costs."""

from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import JsonOption, LogOption, out
from arena.cli.filters import filtered
from arena.cli.render import percent_interval, write_json, write_line, write_table
from arena.report.formatting import ABSENT, counted, digits
from envs.errors import ArenaError

if TYPE_CHECKING:
    from arena.analysis.accounts import Curve, Point
    from arena.log.episode_filter import EpisodeFilter


@filtered("scenario", "attacker", "defender", "run", "where", "since")
def accounts(
    which: "EpisodeFilter | None" = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Of the victim's accuracy, for a clone.")
    ] = 0.8,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Tell from how many accounts each attack reaches its clone, who is flagged, and the price.

    Play one scenario with several numbers of accounts first: --set threat.accounts=5.
    """
    from arena.analysis.accounts import account_curves
    from arena.log.rows import EventRow
    from arena.log.store import Log

    with Log.open(log, create=False) as store:
        episodes = store.episodes(which)
        events = store.of_episodes(EventRow, [row.id for row in episodes])
        where = store.where
    curves = account_curves(episodes, events)
    if json:
        write_json([_as_dict(curve, share) for curve in curves])
        return
    if not curves:
        raise ArenaError(f"no such successful play in {where}; 'arena episodes' lists them")
    columns = ["attacker", "defender", "accounts", "clone / victim %", "caught", "benign flagged %",
               "price", "seeds"]  # fmt: skip
    rows = [_cells(curve, point) for curve in curves for point in curve.points]
    if any(curve.setting for curve in curves):
        settings = [curve.setting for curve in curves for _ in curve.points]
        columns.append("setting")
        rows = [(*cells, setting) for cells, setting in zip(rows, settings, strict=True)]
    write_table(out(), columns, rows, right=columns[2:8], optional=("seeds", "price"))
    for curve in curves:
        needed = curve.needed(share)
        told = counted(needed or max(point.asked for point in curve.points), "account")
        told = told if needed else f"more than {told}"
        write_line(out(), f"{curve.title}: {told} until the clone has "
                          f"{100 * share:g} % of the victim's accuracy")  # fmt: skip


def _price(point: "Point") -> float | None:
    price = point.row.scores.get("attack_price")
    return None if price is None else price.mean


def _cells(curve: "Curve", point: "Point") -> tuple[str, ...]:
    price = _price(point)
    return (
        curve.attack,
        curve.versus,
        _asked(point),
        percent_interval(point.share),
        f"{point.caught:.3g} of {point.asked}",
        percent_interval(point.flagged),
        ABSENT if price is None else digits(price),
        str(point.row.n),
    )


def _asked(point: "Point") -> str:
    """Write from how many accounts an attack asked, and how many it might have."""
    fewer = point.asked < point.accounts
    return f"{point.asked} of {point.accounts}" if fewer else str(point.accounts)


def _as_dict(curve: "Curve", share: float) -> dict[str, object]:
    points = [
        {
            "accounts": point.accounts,
            "asked": point.asked,
            "share": [point.share.mean, point.share.low, point.share.high],
            "caught": point.caught,
            "benign_flagged": None if point.flagged is None else point.flagged.mean,
            "price": _price(point),
            "seeds": list(point.row.seeds),
        }
        for point in curve.points
    ]
    return {"attacker": curve.attack, "defender": curve.versus, "setting": curve.setting,
            "share": share,
            "needed": curve.needed(share), "points": points}  # fmt: skip
