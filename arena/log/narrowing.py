"""Narrows queries over the episode table by a filter."""

from collections.abc import Iterator

from sqlalchemy import ColumnElement, Select, or_

from arena.log.episode_filter import Choice, EpisodeFilter
from arena.log.settings_filter import has_setting
from arena.log.tables import EPISODE
from envs.errors import UnknownName

_SEARCHED = ("scenario_name", "attacker", "defender", "status", "id", "victim", "clone", "data")


def narrow(
    query: Select[*tuple[object, ...]], which: EpisodeFilter | None
) -> Select[*tuple[object, ...]]:
    """Add a filter to a query over the episode table: conditions, order and limit.

    Raises:
        UnknownName: no such column to sort by.
    """
    which = which or EpisodeFilter()
    column = EPISODE.c
    query = query.where(*conditions(which))
    if which.sort is not None:
        if which.sort not in column:
            raise UnknownName("column to sort by", which.sort, column.keys())
        key = column[which.sort]
        query = query.order_by((key.desc() if which.newest_first else key.asc()).nulls_last())
    order = (column.started, column.id)
    query = query.order_by(*(key.desc() if which.newest_first else key for key in order))
    if which.offset:
        query = query.offset(which.offset)
    return query if which.limit is None else query.limit(which.limit)


def conditions(which: EpisodeFilter) -> Iterator[ColumnElement[bool]]:
    """Say what a filter asks of an episode."""
    column = EPISODE.c
    choices: tuple[tuple[ColumnElement[str], Choice], ...] = (
        (column.scenario_name, which.scenario),
        (column.attacker, which.attacker),
        (column.defender, which.defender),
        (column.status, which.status),
        (column.run_id, which.run),
        (column.kind, which.kind),
        (column.plan_hash, which.plan_hash),
    )
    for chosen, choice in choices:
        if choice is not None:
            yield chosen.in_(choice if isinstance(choice, tuple) else (choice,))
    if which.seed is not None:
        yield column.seed == which.seed
    for path, value in which.where:
        yield has_setting(path, value)
    if which.id_prefix:
        yield column.id.startswith(which.id_prefix.lower(), autoescape=True)
    if which.since is not None:
        yield column.started >= which.since
    if which.until is not None:
        yield column.started < which.until
    for word in which.words:
        yield or_(*(column[name].icontains(word, autoescape=True) for name in _SEARCHED))
    if which.within is not None:
        yield from conditions(which.within)
