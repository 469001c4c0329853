"""Tells living writers from dead ones, and marks what the dead left behind.

A process of this machine is looked for by its number and its start, which is counted by the boot
clock: a step of the wall clock changes neither. One of another machine, or of another container, is
known by its signs of life in the episode's row; see `arena.log.heartbeat`.
"""

import hashlib
import os
import socket
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil
from sqlalchemy import Connection, func, insert, select, update

from arena.log import heartbeat as hearts
from arena.log.tables import EPISODE, EVENT, UtcDateTime
from envs.errors import LogError

DIED = "died"
"""Kind of the event about an episode whose process is gone."""

_TOLERANCE_SECONDS = 2.0
"""Where start times are of the wall clock: a step of it moves them."""

_BOOT_CLOCK: bool = Path("/proc/self/stat").exists()
"""Whether starts are counted from the boot: on Linux."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Process(NamedTuple):
    """Identifies a process: numbers are reused, but not with the same start.

    Attributes:
        pid: its number.
        host: name of the machine.
        started: "SPACE:START": the space in which its number counts, and its start.
    """

    pid: int
    host: str
    started: str


@cache
def _space() -> str:
    """Name the boot and the namespace in which this process's numbers count; "" if unknown."""
    try:
        names = _BOOT_ID.read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return hashlib.sha256(names.encode()).hexdigest()[:12]


def _start(pid: int) -> str:
    """Look up when a process began: in ticks since the boot on Linux, else in epoch seconds.

    Raises:
        psutil.Error: there is none, or it cannot be looked at.
    """
    if not _BOOT_CLOCK:
        return str(psutil.Process(pid).create_time())
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError as error:
        raise psutil.NoSuchProcess(pid) from error
    except OSError as error:
        raise psutil.AccessDenied(pid) from error
    # the name in parentheses may hold anything; the start is the 22nd field
    return stat.rpartition(")")[2].split()[19]


@cache
def _started(pid: int) -> str:
    """Look up when a process of ours began; once, since every episode asks."""
    return f"{_space()}:{_start(pid)}"


def this_process() -> Process:
    """Identify the calling process; a fork gets its own answer."""
    return Process(os.getpid(), socket.gethostname(), _started(os.getpid()))


def is_own(pid: int, started: str) -> bool:
    """Whether a number and a start are those of the calling process."""
    me = this_process()
    return (pid, started) == (me.pid, me.started)


def is_local(host: str, started: str) -> bool:
    """Whether a process's number counts here: on this machine, since its boot, among ours."""
    return host == socket.gethostname() and started.partition(":")[0] == _space()


def is_alive(pid: int, started: str) -> bool:
    """Say whether a local process still runs; in doubt it does."""
    then = started.partition(":")[2]
    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return False
        now = _start(pid)
        if _BOOT_CLOCK:
            return now == then
        return abs(float(now) - float(then)) <= _TOLERANCE_SECONDS
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, ValueError):
        return True


class Dead(NamedTuple):
    """An episode that its process left as started, and why that process counts as dead."""

    id: str
    reason: str


class Watch:
    """Remembers since when episodes have given no new sign of life, by this process's own clock."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[datetime, float]] = {}

    def silent(self, id: str, heartbeat: datetime) -> float:
        """Look once more; return the seconds since this sign of life was first seen here."""
        last, since = self._seen.get(id, (None, 0.0))
        if last != heartbeat:
            since = time.monotonic()
            self._seen[id] = heartbeat, since
        return time.monotonic() - since


def find_dead(
    connection: Connection, plan_hash: str | None = None, *, watch: Watch | None = None
) -> list[Dead]:
    """List the episodes that dead processes left as started.

    Args:
        connection: to read by.
        plan_hash: of one plan alone.
        watch: of the signs of life of other machines; without one the clock of the database
            decides, which is enough to show somebody, and not to take an episode up.
    """
    column = EPISODE.c
    now = func.now(type_=UtcDateTime)  # the database's clock, which wrote the signs of life
    query = select(
        column.id, column.pid, column.host, column.process_started, column.heartbeat, now
    ).where(column.status == "started")
    if plan_hash is not None:
        query = query.where(column.plan_hash == plan_hash)
    dead = []
    for id, pid, host, started, heartbeat, moment in connection.execute(query):
        if is_local(host, started):
            if not is_alive(pid, started):
                dead.append(Dead(id, f"the process died (pid {pid}) before the episode ended"))
        elif _is_stale(moment - heartbeat) and (
            watch is None or watch.silent(id, heartbeat) >= hearts.WATCH_SECONDS
        ):
            silent = round((moment - heartbeat).total_seconds() / 60)
            dead.append(Dead(id, f"no sign of life of its process (pid {pid} on {host}) for "
                                 f"{silent} minutes"))  # fmt: skip
    return dead


def _is_stale(silent: timedelta) -> bool:
    return silent > timedelta(seconds=hearts.STALE_SECONDS)


def mark_dead(connection: Connection, watch: Watch, plan_hash: str | None = None) -> int:
    """Mark those episodes as errors, with an event each; call it in a write transaction.

    Returns:
        How many were marked.
    """
    dead = find_dead(connection, plan_hash, watch=watch)
    for one in dead:
        _mark(connection, one)
    return len(dead)


def close(connection: Connection, id: str) -> None:
    """Mark a started episode as an error by hand; call it in a write transaction.

    Raises:
        LogError: it has ended, or its process lives on this machine.
    """
    column = EPISODE.c
    query = select(column.status, column.pid, column.host, column.process_started)
    status, pid, host, started = connection.execute(query.where(column.id == id)).one()
    if status != "started":
        raise LogError(f"episode {id} has ended already, as {status}")
    if is_local(host, started) and is_alive(pid, started):
        raise LogError(f"episode {id} is played by process {pid} of this machine; end that first")
    _mark(connection, Dead(id, f"closed by hand; its process was {pid} on {host}"))


def _mark(connection: Connection, dead: Dead) -> None:
    connection.execute(
        update(EPISODE).where(EPISODE.c.id == dead.id).values(status="error", error=dead.reason)
    )
    connection.execute(
        insert(EVENT).values(
            episode_id=dead.id, time=datetime.now(UTC), kind=DIED, message=dead.reason, data={}
        )
    )


def player_text(pid: int, host: str, started: str, heartbeat: datetime) -> str:
    """Name the process that plays an episode, and what becomes of it if that is gone."""
    if is_local(host, started):
        return f"process {pid} of this machine"
    if _is_stale(silent := datetime.now(UTC) - heartbeat):
        return (
            f"process {pid} on {host}, which gave no sign of life for "
            f"{round(silent.total_seconds() / 60)} minutes; it is watched for "
            f"{hearts.WATCH_SECONDS:g} seconds more"
        )
    return (
        f"process {pid} on {host}, which gives a sign of life every {hearts.BEAT_SECONDS:g} seconds"
    )
