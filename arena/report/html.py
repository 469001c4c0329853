"""Puts some episodes of a log into one HTML file that opens anywhere, without a network."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from arena.analysis.alarms import detections_of
from arena.analysis.episode_data import EpisodeData, gather
from arena.analysis.learning import Learning, learning_of
from arena.log.collector import rare_collections
from arena.log.rows import EpisodeRow
from arena.log.store import Log
from arena.report.alarms import AlarmLine, alarm_lines
from arena.report.effects import EffectTable, effect_table
from arena.report.findings import Finding, findings
from arena.report.formatting import count_text, counted, listed
from arena.report.headline import headline
from arena.report.inferred import inference_finding
from arena.report.learning import LearningTable, learning_finding, learning_table
from arena.report.paper import Beside, beside_published
from arena.report.plots.figures import FIGURES, MOST_GAMES, drawn_games, file_stems
from arena.report.plots.over_settings import draw_over_settings
from arena.report.plots.style import Drawing, inline_svg
from arena.report.tables import (
    EpisodeDetails,
    InferenceLine,
    Origin,
    ScoreLine,
    episode_details,
    headings,
    inference_lines,
    origins,
    score_lines,
    shared_scores,
)
from envs.atomic_file import whole_file
from envs.errors import ArenaError, printable

DETAILED = 200
"""Episodes that are unfolded one by one; with more, the report says so and points to the log."""

MANY = "figures of one game among so many; choose it by --where"
"""Stands where a scenario has more games than are drawn one by one."""


class Picture(NamedTuple):
    """A figure on the page."""

    title: str
    caption: str
    alt: str
    svg: Markup


@dataclass(frozen=True)
class Section:
    """What the page shows of one game; `shows` names all that it depends on."""

    shows: tuple[object, ...]
    scenario: str
    name: str
    anchor: str
    setting: str
    headline: str
    effects: EffectTable
    findings: list[Finding]
    headings: list[tuple[str, str]]
    lines: list[ScoreLine]
    shared: list[tuple[str, str]]
    learning: LearningTable
    alarms: list[AlarmLine]
    forest: Picture | None
    pictures: list[Picture]
    missing_pictures: str
    inferences: list[InferenceLine]
    episodes: list[EpisodeDetails]
    verifiable: str | None
    hidden_episodes: int
    origins: list[Origin]
    seeds: str


@dataclass(frozen=True)
class PageContents:
    """What the page shows: a section for each game, and the published tables beside ours.

    `over_settings` are figures of scenarios that were played at several settings, by name.
    """

    sections: list[Section]
    beside: list[Beside]
    total: str
    over_settings: list[tuple[str, Picture]]

    @property
    def names(self) -> list[str]:
        """Its games; the scenarios alone where there are many games."""
        names = [section.name for section in self.sections]
        return names if len(names) <= MOST_GAMES else list(
            dict.fromkeys(section.scenario for section in self.sections)
        )  # fmt: skip


@rare_collections()
def write_report(
    log: Log, episode_ids: Iterable[str], out: Path, *, title: str | None = None
) -> Path:
    """Write a report about some episodes: sentences, scoreboard, figures, details.

    The same log and ids give the same file.

    Args:
        log: where the episodes are.
        episode_ids: ids, or beginnings of ids, in the order in which they shall stand.
        out: the file; folders on the way are made.
        title: of the page; the scenarios' names if absent.

    Returns:
        the file written.

    Raises:
        UnknownName, LogError: an id that no episode, or more than one, has.
        ArenaError: no episode was named, or the file cannot be written.
    """
    text = render(gather(log, episode_ids), title=title)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as part:  # never half a page
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write the report to {out}: {error.strerror}") from error
    return out


def render(episode_data: EpisodeData, *, title: str | None = None) -> str:
    """Give the page as text."""
    return page(body_of(episode_data), title=title)


def body_of(episode_data: EpisodeData, before: "PageContents | None" = None) -> PageContents:
    """Work out everything that the page shows; the figures of a game take seconds.

    Args:
        episode_data: what it is about.
        before: an older state of the page, whose sections stay where their episodes do.
    """
    games = episode_data.games()
    drawn = {} if before is None else {section.shows: section for section in before.sections}
    sections, few = [], drawn_games(episode_data)
    for (name, part), anchor in zip(games.items(), file_stems(games), strict=True):
        shows = _shown(name, anchor, part)
        sections.append(
            drawn.get(shows) or _section(name, part, anchor=anchor, shows=shows, draws=name in few)
        )
    return PageContents(
        sections,
        beside_published(episode_data),
        counted(len(episode_data.episodes), "episode"),
        list(_over_settings(episode_data)),
    )


def _over_settings(episode_data: EpisodeData) -> Iterator[tuple[str, Picture]]:
    """Draw the scenarios that were played at several settings."""
    for number, (name, part) in enumerate(episode_data.scenarios().items()):
        drawing = draw_over_settings(part)
        if drawing is not None:
            yield name, _picture(drawing, f"settings-{number}")


def _shown(name: str, anchor: str, part: EpisodeData) -> tuple[object, ...]:
    """Tell what a section depends on: ended episodes stay, what sets them apart may not."""
    board = [(row.title, row.images) for row in part.board]
    return name, anchor, *(row.id for row in part.episodes), *board


def page(
    body: PageContents, *, title: str | None = None, live: Markup | None = None, state: str = ""
) -> str:
    """Put the page together.

    Args:
        body: what it shows.
        title: of the page; the scenarios' names if absent.
        live: what is being played, on a page that is served; such a page loads the script
            /live.js, every other page loads nothing.
        state: names what a served page shows, so that its script can tell when that is old.
    """
    names = body.names
    text = (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title or (f"Model extraction: {listed(names)}" if names else "Model extraction"),
            style=Markup(packaged("page.css")),  # ours, and CSS has other rules than HTML
            sections=body.sections,
            folded=len(body.sections) > MOST_GAMES,
            beside=body.beside,
            over_settings=body.over_settings,
            total=body.total,
            version=_version(),
            live=live,
            state=state,
        )
    )
    return printable(text)


@cache
def environment() -> Environment:
    """Give what every template of the report is filled in with."""
    return Environment(
        loader=FunctionLoader(packaged),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _section(
    name: str, episode_data: EpisodeData, *, anchor: str, shows: tuple[object, ...], draws: bool
) -> Section:
    detailed = episode_data.episodes[:DETAILED]
    learning = learning_of(episode_data.board, episode_data.checkpoints)
    effects = effect_table(episode_data.effects)
    pictures, missing = _pictures(episode_data, anchor) if draws else ({}, MANY)
    forest = pictures.pop("effects", None)  # it stands at the top
    return Section(
        shows=shows,
        scenario=episode_data.episodes[0].scenario_name,
        name=name,
        anchor=anchor,
        setting=_setting(episode_data),
        headline=headline(episode_data),
        effects=effects,
        findings=_findings(episode_data, learning, effects),
        headings=headings(episode_data.board),
        lines=score_lines(episode_data.board),
        shared=shared_scores(episode_data.board),
        learning=learning_table(learning),
        alarms=alarm_lines(detections_of(episode_data.board, episode_data.events)),
        forest=forest,
        pictures=list(pictures.values()),
        missing_pictures=missing,
        inferences=inference_lines(episode_data),
        episodes=[episode_details(episode_data, episode) for episode in detailed],
        verifiable=_verifiable(episode_data.episodes),
        hidden_episodes=len(episode_data.episodes) - len(detailed),
        origins=origins(episode_data.runs),
        seeds=listed([str(seed) for seed in sorted({row.seed for row in episode_data.episodes})]),
    )


def _findings(
    episode_data: EpisodeData, learning: Sequence[Learning], effects: EffectTable
) -> list[Finding]:
    """Answer the questions, how sure we are last; a table of effects answers two of them."""
    if not episode_data.board:
        return []
    attacks, *costs, certainty = findings(episode_data)
    begun, inferred = learning_finding(learning), inference_finding(episode_data.inferred)
    return [attacks, *(() if effects.lines else costs), *begun, *inferred, certainty]


def _verifiable(rows: Iterable[EpisodeRow]) -> str | None:
    """Return the id of the first episode that `arena replay --verify` plays again."""
    ended = (row for row in rows if row.kind == "play" and row.status != "started")
    return next((row.id for row in ended if not row.is_remote), None)


def _setting(episode_data: EpisodeData) -> str:
    """Say in a line what was at stake: victim, data, budget."""
    rows = episode_data.episodes
    victims = listed(sorted({row.victim for row in rows}))
    clones = listed(sorted({row.clone for row in rows}))
    data = listed(sorted({row.data for row in rows}))
    budgets = listed([count_text(budget) for budget in sorted({row.budget for row in rows})])
    return f"Victim {victims}, clone {clones}, data {data}; {budgets} queries."


def _pictures(episode_data: EpisodeData, anchor: str) -> tuple[dict[str, Picture], str]:
    """Draw the figures, by name; also says which there are none of, and why."""
    pictures, missing = {}, []
    for name, (draw, why) in FIGURES.items():
        drawing = draw(episode_data)
        if drawing is None:
            missing.append(f"{name.replace('-', ' ')} ({why})")
        else:
            pictures[name] = _picture(drawing, anchor)
    return pictures, "; ".join(missing)


def _picture(drawing: Drawing, anchor: str) -> Picture:
    svg = Markup(inline_svg(drawing, prefix=f"{anchor}-{drawing.name}"))
    return Picture(drawing.title, drawing.caption, drawing.alt, svg)


def packaged(name: str) -> str:
    """Read a file that lies beside this one."""
    return resources.files("arena.report").joinpath(name).read_text(encoding="utf-8")


def _version() -> str:
    try:
        return version("fortress-arena")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "of unknown version"
