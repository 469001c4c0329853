"""Draws every figure that some episodes have the data for, and writes them to files."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from arena.analysis.episode_data import EpisodeData, gather
from arena.log.store import Log
from arena.report.plots.curves import draw_curves
from arena.report.plots.exits import draw_exits
from arena.report.plots.forest import draw_forest
from arena.report.plots.inferences import draw_calibration, draw_inferences
from arena.report.plots.latencies import draw_latencies
from arena.report.plots.matrix import draw_matrix
from arena.report.plots.over_settings import draw_over_settings
from arena.report.plots.over_time import draw_over_time
from arena.report.plots.profiles import draw_profiles
from arena.report.plots.query_samples import draw_asked
from arena.report.plots.service import draw_service
from arena.report.plots.style import Drawing, save
from arena.report.plots.tradeoff import draw_tradeoff
from envs.errors import ArenaError

Draw = Callable[[EpisodeData], Drawing | None]

FIGURES: Mapping[str, tuple[Draw, str]] = {
    "effects": (draw_forest, "no undefended victim was played beside the defenders"),
    "clone-accuracy": (draw_curves, "no clone was measured along the budget"),
    "tradeoff": (draw_tradeoff, "neither utility nor compute was measured beside a clone"),
    "service": (draw_service, "no defence was played at several settings of its knob"),
    "matrix": (draw_matrix, "no clone was measured at the end"),
    "profiles": (draw_profiles, "no side met three opponents on two seeds"),
    "inferences": (draw_inferences, "no attacker said anything about how the victim is built"),
    "calibration": (draw_calibration, "no attacker said ten times how sure it was"),
    "exits": (draw_exits, "no exits were logged, so that those of queries are unknown"),
    "over-time": (draw_over_time, "exits and service stay as they are along the budget"),
    "latencies": (draw_latencies, "no attacker wrote down what it read from the clock"),
    "asked": (draw_asked, "no sample of the queries lies beside the log"),
}
"""Every figure: what draws it, and why it cannot be drawn where it returns None."""

MOST_GAMES = 12
"""With more games of a scenario, as a sweep makes them, their figures over all settings are drawn
and not those of each."""

FORMATS = ("png", "svg", "pdf")


def write_figures(
    log: Log,
    episode_ids: Iterable[str],
    out_dir: Path,
    *,
    formats: Sequence[str] = ("png", "svg"),
) -> list[Path]:
    """Draw the figures of some episodes, a set for each game, and write them to a folder.

    Args:
        log: where the episodes are.
        episode_ids: ids, or beginnings of ids, in the order in which they shall stand.
        out_dir: made where it is missing.
        formats: out of `FORMATS`.

    Returns:
        the files, GAME-FIGURE.FORMAT, and the points of the figure "service" as CSV. A figure
        without data has no file.

    Raises:
        ArenaError: no episode, an unknown id or format, nothing to draw, or files that cannot
            be written.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise ArenaError(f"expected figures as {', '.join(FORMATS)}, got {list(formats)}")
    episode_data = gather(log, episode_ids)
    scenarios = episode_data.scenarios()
    drawings = {
        f"{stem}-{drawing.name}": drawing
        for stem, part in zip(file_stems(scenarios), scenarios.values(), strict=True)
        if (drawing := draw_over_settings(part)) is not None
    }
    games, few = episode_data.games(), drawn_games(episode_data)
    drawings |= {
        f"{stem}-{drawing.name}": drawing
        for stem, (name, part) in zip(file_stems(games), games.items(), strict=True)
        if name in few
        for draw, _ in FIGURES.values()
        if (drawing := draw(part)) is not None
    }
    if not drawings:
        raise ArenaError(
            "there is nothing to draw: none of these episodes ended well with a clone measured "
            "or rounds logged"
        )
    return _write(drawings, out_dir, formats)


def drawn_games(episode_data: EpisodeData) -> set[str]:
    """Return the games, by their names for people, whose own figures are drawn."""
    titles: dict[str, set[str]] = {}
    for played in episode_data.played.values():
        titles.setdefault(played.game.scenario, set()).add(played.game.title)
    return {title for games in titles.values() if len(games) <= MOST_GAMES for title in games}


def _write(drawings: Mapping[str, Drawing], out_dir: Path, formats: Sequence[str]) -> list[Path]:
    paths = []
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for stem, drawing in drawings.items():
            for ending in formats:
                path = out_dir / f"{stem}.{ending}"
                save(drawing, path)
                paths.append(path)
            if drawing.points:
                path = out_dir / f"{stem}.csv"
                with path.open("w", newline="", encoding="utf-8") as file:
                    csv.writer(file, lineterminator="\n").writerows(drawing.points)
                paths.append(path)
    except OSError as error:
        raise ArenaError(f"cannot write figures to {out_dir}: {error.strerror}") from error
    return paths


def file_stems(names: Iterable[str]) -> list[str]:
    """Turn names into beginnings of file names, each different: letters, digits and dashes."""
    stems: list[str] = []
    for name in names:
        stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "scenario"
        number, free = 2, stem
        while free in stems:
            free, number = f"{stem}-{number}", number + 1
        stems.append(free)
    return stems
