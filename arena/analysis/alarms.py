"""Sums up what detectors noticed: when the attack was first flagged, and which users were."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from arena.analysis.intervals import Interval, share_interval
from arena.analysis.learning import Delay, delay_of
from arena.analysis.scoreboard import ScoreRow, by_defender
from arena.log.rows import EpisodeRow, EventRow

ALARM = "alarm"
"""Kind of the events; `agents.defenders.detector` names it, and plug-ins may."""


class Alarm(NamedTuple):
    """One alarm; None where the defender did not say it.

    Attributes:
        queries: of the budget that were used.
        client: who was flagged.
        attacker: whether that was the attacker.
    """

    queries: int | None
    client: int | None
    attacker: bool | None


class Detection(NamedTuple):
    """What the alarms of one meeting came to.

    Attributes:
        row: the meeting.
        first: until the attacker was flagged first.
        flagged: share of the benign clients, of all episodes together, that was flagged at some
            time, with its Wilson interval; None without benign clients.
    """

    row: ScoreRow
    first: Delay
    flagged: Interval | None


def alarms_of(events: Iterable[EventRow]) -> list[Alarm]:
    """Read the alarms among some events, in their order."""
    found = []
    for event in events:
        if event.kind == ALARM:
            data = event.data.get("data")
            told = data if isinstance(data, Mapping) else {}
            client, attacker = told.get("client"), told.get("attacker")
            found.append(
                Alarm(
                    event.queries_used,
                    client if isinstance(client, int) else None,
                    attacker if isinstance(attacker, bool) else None,
                )
            )
    return found


def detections_of(
    board: Iterable[ScoreRow], events: Mapping[str, Sequence[EventRow]]
) -> list[Detection]:
    """Sum up the alarms of each meeting with a defender that raised one somewhere."""
    board = list(board)
    alarms = {
        one.id: alarms_of(events.get(one.id, ())) for row in board for one in row.episodes.values()
    }
    return [
        _detection(row, alarms)
        for rows in by_defender(board).values()
        if any(alarms[one.id] for row in rows for one in row.episodes.values())
        for row in rows
    ]


def _detection(row: ScoreRow, alarms: Mapping[str, Sequence[Alarm]]) -> Detection:
    episodes = [row.episodes[seed] for seed in row.seeds]
    firsts = []
    for episode in episodes:
        raised = alarms[episode.id]
        against = [one.queries for one in raised if one.attacker and one.queries is not None]
        firsts.append(min(against, default=None))
    return Detection(row, delay_of(firsts, episodes[0].budget), benign_flagged(row, alarms))


def benign_flagged(row: ScoreRow, alarms: Mapping[str, Sequence[Alarm]]) -> Interval | None:
    """Return the share of benign clients, of all episodes together, that was flagged at some time.

    Args:
        row: the meeting.
        alarms: of each episode, by its id.

    Returns:
        the share with its interval; None where no benign user asked.
    """
    episodes = list(row.episodes.values())
    clients = sum(map(_clients, episodes))
    flagged = sum(
        len({one.client for one in alarms[episode.id] if one.attacker is False})
        for episode in episodes
    )
    return share_interval(min(flagged, clients), clients) if clients else None


def _clients(episode: EpisodeRow) -> int:
    """Count the benign clients of an episode."""
    traffic = episode.plan.get("traffic")
    if not isinstance(traffic, Mapping) or not traffic.get("benign"):
        return 0
    clients = traffic.get("clients", 1)
    return clients if isinstance(clients, int) else 1
