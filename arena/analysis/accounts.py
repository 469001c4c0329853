"""How many accounts an attack needs: the clone against the victim, along the number of accounts.

Episodes of one curve differ in the seed, the number of accounts, the budget of each and the prices
alone.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from arena.analysis.alarms import Alarm, alarms_of, benign_flagged
from arena.analysis.games import parts_of, told_apart
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.scoreboard import ScoreRow, scoreboard
from arena.log.rows import EpisodeRow, EventRow

SHARE = 0.8
"""Of the victim's accuracy, from which a clone counts as one."""

Events = Mapping[str, Sequence[EventRow]]
"""Those of each episode, by its id."""


class Point(NamedTuple):
    """An attack from one number of accounts.

    Attributes:
        accounts: that were granted.
        asked: from which the attack asked, in the seed with most; all that were granted where the
            log does not say.
        row: the meeting.
        share: the clone's accuracy as a share of the victim's, over seeds.
        caught: accounts that were flagged, on average.
        flagged: share of benign clients that were flagged; None without any.
    """

    accounts: int
    asked: int
    row: ScoreRow
    share: Interval
    caught: float
    flagged: Interval | None


class Curve(NamedTuple):
    """An attack from several numbers of accounts, the smallest first.

    Attributes:
        attack, versus: who met.
        setting: what tells it from other curves of the same players; "" where there is one alone.
        points: one for each number of accounts.
    """

    attack: str
    versus: str
    setting: str
    points: tuple[Point, ...]

    @property
    def title(self) -> str:
        """Name it for people."""
        return f"{self.attack} / {self.versus}" + (f", {self.setting}" if self.setting else "")

    def needed(self, share: float = SHARE) -> int | None:
        """Return the smallest number asked whose mean clone reaches the share; None without one."""
        return min((one.asked for one in self.points if one.share.mean >= share), default=None)


def account_curves(episodes: Iterable[EpisodeRow], events: Events) -> list[Curve]:
    """Draw a curve for each attacker and defender, in the order of play.

    Args:
        episodes: successful plays with plans; others are left out.
        events: of each episode, for the alarms.
    """
    curves: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    board = scoreboard(episodes)
    for row in board:
        point = _point(row, events)
        if point is not None:
            curves[_key(row)].append(point)
    return [
        Curve(key[0], key[1], label, tuple(sorted(points, key=lambda one: one.accounts)))
        for (key, points), label in zip(curves.items(), _labels(list(curves)), strict=True)
    ]


def _labels(keys: Sequence[tuple[str, ...]]) -> list[str]:
    """Say of each curve what others of the same players have otherwise."""
    alike: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    for key in keys:
        alike[key[:2]].append(key[2:])
    told = {players: told_apart(settings) for players, settings in alike.items()}
    return [told[key[:2]][key[2:]] for key in keys]


def _point(row: ScoreRow, events: Events) -> Point | None:
    episodes = [row.episodes[seed] for seed in row.seeds]
    shares = [one.clone_accuracy / one.victim_accuracy for one in episodes
              if one.clone_accuracy is not None and one.victim_accuracy]  # fmt: skip
    if not shares:
        return None
    alarms = {one.id: alarms_of(events.get(one.id, ())) for one in episodes}
    caught = [_caught(alarms[one.id]) for one in episodes]
    granted = int(str(_threat(row).get("accounts", 1)))
    asked = [one.accounts_used for one in episodes if one.accounts_used is not None]
    return Point(
        granted,
        max(asked, default=granted),
        row,
        mean_interval(shares),
        sum(caught) / len(caught),
        benign_flagged(row, alarms),
    )


def _caught(alarms: Iterable[Alarm]) -> int:
    return len({alarm.client for alarm in alarms if alarm.attacker})


def _threat(row: ScoreRow) -> Mapping[str, object]:
    threat = next(iter(row.episodes.values())).plan.get("threat")
    return threat if isinstance(threat, Mapping) else {}


def _key(row: ScoreRow) -> tuple[str, ...]:
    """Return what all episodes of a curve share."""
    parts = parts_of(next(iter(row.episodes.values())))
    world = json.loads(parts.world)
    for name in ("accounts", "account_budget", "account_price", "query_price"):
        world["threat"].pop(name, None)
    world["threat"].setdefault("account_policy", "one")
    scenario = json.dumps({"scenario": row.scenario})
    return row.attack, row.versus, scenario, json.dumps(world, sort_keys=True), parts.pool
