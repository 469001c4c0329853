"""Finds the page that belongs to an address; every state of a page is an address."""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qs

from arena.log.episode_filter import EpisodeFilter
from arena.log.store import Log
from arena.report.live import Found, LivePage, script
from arena.report.view.comparison import comparison_page
from arena.report.view.episode_page import episode_page
from arena.report.view.episode_table import table_page
from arena.report.view.query_browser import query_page
from envs.errors import ScenarioError

Asked = Mapping[str, list[str]]
"""What stands behind the question mark of an address."""

_EPISODE = re.compile(r"/episode/([0-9a-f]{1,32})(/queries)?")
_FIELDS = 200


class Site:
    """Answers for every page of a log.

    Args:
        log: is only read.
        which: episodes that the table and the report are about; all where None.
        title: of the pages.
    """

    def __init__(
        self, log: Log, which: EpisodeFilter | None = None, *, title: str | None = None
    ) -> None:
        self._log, self._which, self._title = log, which, title
        self.live = LivePage(log, which, title=title)
        self._pages: Mapping[str, Callable[[Asked], Found]] = {
            "/": lambda asked: table_page(log, which, asked, now=self.live.block, title=title),
            "/compare": lambda asked: comparison_page(log, asked.get("id", [])),
            "/report": lambda _: self.live.page(),
            "/now": lambda _: self.live.now(),
            "/state": lambda _: self.live.state(),
            "/live.js": lambda _: script("live.js"),
            "/htmx.js": lambda _: script("view/htmx.min.js"),
        }

    def answer(self, path: str, query: str) -> Found:
        """Give a page.

        Args:
            path: of its address.
            query: what stands behind the question mark.

        Raises:
            UnknownName: no episode has the id, no column the name.
            ScenarioError: the address says something that cannot be.
            LogError: the log cannot be read.
        """
        try:
            asked = parse_qs(query, max_num_fields=_FIELDS)
        except ValueError as error:
            raise ScenarioError(f"expected at most {_FIELDS} fields in the address") from error
        if path in self._pages:
            return self._pages[path](asked)
        episode = _EPISODE.fullmatch(path)
        if episode is None:
            return Found("there is no such page", "text/plain", HTTPStatus.NOT_FOUND)
        id, queries = episode.groups()
        return query_page(self._log, id, asked) if queries else episode_page(self._log, id)
