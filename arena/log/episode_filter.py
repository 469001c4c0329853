"""Filters the episodes of a log."""

from dataclasses import dataclass
from datetime import datetime

Choice = str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFilter:
    """Say which episodes are meant. What is None does not narrow; a tuple means "one of these".

    Attributes:
        where: settings of the plan that it has, each a dotted path such as "threat.budget" and a
            value as text; "none" means that it has no such setting.
        id_prefix: beginning of the episode's id.
        since, until: started at this moment or later, before this moment; need a time zone.
        words: each stands in its id, its status, or the name of its scenario, of a player, a
            network or the data, in capital letters or small ones.
        within: another filter that it passes too; its order and limit do not count.
        limit: at most so many, the newest (or oldest) ones.
        offset: after leaving out so many.
        newest_first: order by start, descending.
        sort: another column of the episode to order by, the same way; rows without a value last.
    """

    scenario: Choice = None
    attacker: Choice = None
    defender: Choice = None
    status: Choice = None
    run: Choice = None
    kind: Choice = None
    plan_hash: Choice = None
    seed: int | None = None
    where: tuple[tuple[str, str], ...] = ()
    id_prefix: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    words: tuple[str, ...] = ()
    within: "EpisodeFilter | None" = None
    limit: int | None = None
    offset: int = 0
    newest_first: bool = True
    sort: str | None = None
