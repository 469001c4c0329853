"""Tell live writers from dead ones, and mark what the dead left behind."""

import os
import socket
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

import psutil
from sqlalchemy import Connection, insert, select, update

from arena.log.tables import Episode, Event

# A step of the system clock moves the start times that are reported; a reused process number
# within so short a time is far less likely than such a step.
_TOLERANCE_SECONDS = 2.0


class Process(NamedTuple):
    """Identify a process: numbers are reused, but not with the same start (epoch seconds)."""

    pid: int
    host: str
    started: float


@cache
def _started(pid: int) -> float:
    """Look up when a process of ours began; once, since every episode asks."""
    return float(psutil.Process(pid).create_time())


def this_process() -> Process:
    """Identify the calling process; a fork gets its own answer."""
    return Process(os.getpid(), socket.gethostname(), _started(os.getpid()))


def is_alive(pid: int, started: float) -> bool:
    """Say whether a process of this host still runs; in doubt it does."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(abs(process.create_time() - started) <= _TOLERANCE_SECONDS)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def find_dead(connection: Connection) -> list[tuple[str, int]]:
    """List the episodes that a dead process of this host left as started: id and process number."""
    episode = Episode.table().c
    rows = connection.execute(
        select(episode.id, episode.pid, episode.process_started).where(
            episode.status == "started", episode.host == socket.gethostname()
        )
    ).all()
    return [(id, pid) for id, pid, started in rows if not is_alive(pid, started)]


def mark_dead(connection: Connection) -> int:
    """Mark those episodes as errors, with an event each; call it in a write transaction.

    Returns:
        How many were marked.
    """
    dead = find_dead(connection)
    table = Episode.table()
    for id, pid in dead:
        message = f"the process died (pid {pid}) before the episode ended"
        connection.execute(
            update(table).where(table.c.id == id).values(status="error", error=message)
        )
        connection.execute(
            insert(Event.table()).values(
                episode_id=id, time=datetime.now(UTC), kind="died", message=message
            )
        )
    return len(dead)
