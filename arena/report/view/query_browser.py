"""Browses the queries of an episode that kept them: what was asked, and what was answered."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arena.log.reader import LogReader
from arena.log.rows import EpisodeRow
from arena.recording.excerpts import Excerpt, TapedQuery, excerpt
from arena.recording.samples import picture
from arena.report.formatting import count_text, number, percent
from arena.report.live import Found
from arena.report.view.addresses import filled, whole
from arena.report.view.episode_page import title_of
from envs.errors import ArenaError

SHOWN = 24
"""Queries of a page."""

SIDE = 112
"""Pixels of an image's longer side; larger ones are shrunk to it."""

_CLASSES = 3
"""Classes of an answer that are named, the most likely ones."""


class QueryCard(NamedTuple):
    """One query as the page shows it; empty for what the tape does not say.

    Attributes:
        number: of the query, from 1.
        asked: the round, and the account where there are several.
        image: its address, which holds the pixels.
        answer: the most likely classes and their shares.
        exit: at which it left.
        latency: of the answer.
        undefended: as `answer`, of the undefended victim.
        differs: whether the two name another class.
    """

    number: str
    asked: str
    image: str
    answer: Sequence[str]
    exit: str
    latency: str
    undefended: Sequence[str]
    differs: bool


def query_page(log: LogReader, id: str, asked: Mapping[str, list[str]]) -> Found:
    """Give a page of an episode's queries.

    Args:
        log: holds the episode.
        id: of it.
        asked: fields of the address: `from`, the number of the first query.

    Raises:
        UnknownName, LogError: no episode has the id, or several begin so.
        ScenarioError: `from` is no number.
    """
    row = log.episode(id)
    first = whole(asked, "from", 1, least=1)
    fault, found = "", Excerpt((), 0)
    try:
        found = excerpt(log, row.id, first, SHOWN)
    except ArenaError as error:  # the page around it is well
        fault = str(error)
    return filled(
        "queries.html.j2",
        title=f"Queries of {title_of(row)}",
        row=row,
        fault=fault,
        cards=[_card(row, query) for query in found.queries],
        total=found.total,
        told=count_text(found.total),
        first=first,
        last=first + len(found.queries) - 1,
        before=max(1, first - SHOWN) if first > 1 else 0,
        after=first + SHOWN if first + SHOWN <= found.total else 0,
        end=max(1, found.total - SHOWN + 1),
    )


def _card(row: EpisodeRow, query: TapedQuery) -> QueryCard:
    undefended, is_answered = query.undefended, bool(query.posteriors.any())
    return QueryCard(
        number=count_text(query.number),
        asked=f"round {count_text(query.round + 1)}"
        + (f", account {query.account + 1}" if query.account else ""),
        image=_image(query.image),
        answer=_likely(query.posteriors, class_names(row)),
        exit=_exit(row, query.exit) if is_answered else "none",
        latency="" if query.seconds is None else number(query.seconds, "seconds"),
        undefended=() if undefended is None else _likely(undefended, class_names(row)),
        differs=is_answered
        and undefended is not None
        and undefended.argmax() != query.posteriors.argmax(),
    )


def _exit(row: EpisodeRow, exit: int | None) -> str:
    """Name an exit; of several defences' exits only the number is known."""
    if exit is None:
        return ""
    names = row.exit_names or ()
    known = names[0][exit : exit + 1] if len(names) == 1 else ()
    return f"{exit + 1}" + (f", {known[0]}" if known else "")


def class_names(row: EpisodeRow) -> Sequence[str]:
    """Return the names of the victim's classes that its scenario gives; () where it gives none."""
    victim = row.plan.get("victim")
    names = victim.get("class_names") if isinstance(victim, Mapping) else None
    return [str(one) for one in names] if isinstance(names, list | tuple) else ()


def _likely(posteriors: NDArray[np.float32], names: Sequence[str]) -> list[str]:
    """Name the likeliest classes of an answer, and what it gives them."""
    if not posteriors.any():
        return ["refused"]
    best = np.argsort(-posteriors, kind="stable")[:_CLASSES]
    shown = [place for place in best if posteriors[place] >= 0.0005 or place == best[0]]
    told = {place: f" ({name})" for place, name in enumerate(names)}
    return [
        f"class {place}{told.get(int(place), '')}: {percent(float(posteriors[place]))}%"
        for place in shown
    ]


def _image(image: NDArray[np.float32]) -> str:
    """Write an image as the address of a PNG that holds it."""
    from PIL import Image

    pixels = (np.nan_to_num(image).clip(0, 1) * 255).round().astype(np.uint8)
    shown = picture([pixels[None]], columns=1, side=SIDE, gap=0, ground=0)
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
