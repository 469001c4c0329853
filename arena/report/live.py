"""The report about a log as it stands at each moment, and what is being played."""

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from markupsafe import Markup

from arena.analysis.episode_data import gather
from arena.log.episode_filter import EpisodeFilter
from arena.log.overview import fates
from arena.log.store import Log
from arena.report.html import PageContents, body_of, packaged, page
from arena.report.running import now_block


class Found(NamedTuple):
    """What an answer is made of; `address` is the shortest one that gives the same."""

    text: str
    kind: str = "text/html"
    status: HTTPStatus = HTTPStatus.OK
    address: str = ""


@dataclass(frozen=True)
class _Kept:
    """The part of the page that takes seconds, and the state it shows."""

    state: str
    body: PageContents


class LivePage:
    """The report about some episodes of a log, as it stands at each moment.

    Figures of a game are drawn again only when another episode of it has ended.

    Args:
        log: is only read.
        which: episodes it is about; all where None.
        title: of the page.
    """

    def __init__(
        self, log: Log, which: EpisodeFilter | None = None, *, title: str | None = None
    ) -> None:
        self._log, self._which, self._title = log, which, title
        self._kept: _Kept | None = None
        self._drawing = threading.Lock()  # one at a time: it is heavy, and matplotlib has globals

    def page(self) -> Found:
        """Give the whole page."""
        episodes = self._fates()
        kept = self._up_to_date(episodes)
        now = now_block(self._log, episodes)
        return Found(page(kept.body, title=self._title, live=now, state=kept.state))

    def now(self) -> Found:
        """Give the part about what is being played."""
        return Found(str(self.block()))

    def block(self) -> Markup:
        """Give the same for another page."""
        return now_block(self._log, self._fates())

    def state(self) -> Found:
        """Give short names of what page and part would show now."""
        episodes = self._fates()
        now = now_block(self._log, episodes)
        names = {"report": _state(episodes), "now": digest(now)}
        return Found(json.dumps(names), "application/json")

    def _fates(self) -> list[tuple[str, str]]:
        return fates(self._log, self._which)

    def _up_to_date(self, episodes: Sequence[tuple[str, str]]) -> _Kept:
        state = _state(episodes)
        with self._drawing:
            if self._kept is None or self._kept.state != state:
                ended = [id for id, status in episodes if status != "started"]
                before = None if self._kept is None else self._kept.body
                body = (
                    body_of(gather(self._log, ended), before)
                    if ended
                    else PageContents([], [], "no episode", [])
                )
                self._kept = _Kept(state, body)
            return self._kept


def _state(episodes: Sequence[tuple[str, str]]) -> str:
    return digest([one for one in episodes if one[1] != "started"])


def digest(value: object) -> str:
    """Give a short name of what a value is now."""
    return hashlib.sha256(str(value).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def script(name: str) -> Found:
    """Give a script of the pages."""
    return Found(packaged(name), "text/javascript")
