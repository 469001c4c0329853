"""The log itself: open it, write episodes into it, read them back.

    with Log.open("arena.db") as log:
        run_id = log.begin_run(RunRecord(command="arena run x.toml", scenario_name="x"))
        writer = log.begin_episode(run_id, EpisodeRecord(...))
        writer.checkpoint(CheckpointRow(index=0, queries_used=256, wall_seconds=0.1))
        writer.flush()
        writer.finish("success", OutcomeRow(clone_accuracy=0.71))
        log.episodes(EpisodeFilter(status="success"))

A log serves many threads, and each process opens its own (connections do not survive a fork).
"""

import hashlib
import platform
import secrets
import weakref
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, func, insert, select

from arena.log import processes, reopening
from arena.log.heartbeat import Heartbeat
from arena.log.opening import LogConnection
from arena.log.rows import EpisodeRecord, EventRow, RunRecord
from arena.log.tables import EPISODE, EVENT, RUN
from arena.log.writer import EpisodeWriter
from envs.errors import LogError


def episode_id(run_id: str, plan_hash: str) -> str:
    """Name an episode: 12 hexadecimal digits that run and plan determine."""
    return hashlib.sha256(f"{run_id}/{plan_hash}".encode()).hexdigest()[:12]


class Log(LogConnection):
    """Keep what was played. Open one with `Log.open`, in a `with` statement or with `close`."""

    def __init__(self, engine: Engine, where: str, *, read_only: bool) -> None:
        super().__init__(engine, where, read_only=read_only)
        self._heartbeats: weakref.WeakSet[Heartbeat] = weakref.WeakSet()

    def close(self) -> None:
        """Close all connections. What a writer has not flushed is lost."""
        for heartbeat in self._heartbeats:
            heartbeat.stop()
        super().close()

    def begin_run(self, record: RunRecord) -> str:
        """Write down that a run begins.

        Returns:
            The id of the run, 12 random hexadecimal digits.

        Raises:
            LogError: it cannot be written.
        """
        row = asdict(record) | {"id": secrets.token_hex(6), "created": datetime.now(UTC)}
        row["host"] = record.host or processes.this_process().host
        row["python"] = record.python or platform.python_version()
        with self.writing() as connection:
            connection.execute(insert(RUN), row)
        return str(row["id"])

    def begin_episode(
        self,
        run_id: str,
        record: EpisodeRecord,
        *,
        admit: Callable[[Connection], None] = lambda connection: None,
    ) -> EpisodeWriter:
        """Write down that an episode begins, and give the writer for the rest.

        Args:
            run_id: of the run it belongs to.
            record: describes it.
            admit: looks at the log, into which nobody else can write meanwhile; raises where the
                episode must not begin.

        Raises:
            LogError: it cannot be written, or this run has played this plan already.
        """
        with self.writing() as connection:
            admit(connection)
            return self._begin(connection, run_id, record)

    def claim_episode(self, run_id: str, record: EpisodeRecord) -> EpisodeWriter | str:
        """Begin an episode unless its plan is played, or was, by any process.

        A play that failed by its players counts too, if it began after the run did.

        Returns:
            the writer for the rest; or the id of the episode because of which none begins.

        Raises:
            LogError: it cannot be written.
        """
        with self.writing() as connection:
            run = RUN.c
            since = connection.execute(select(run.created).where(run.id == run_id)).scalar()
            other = reopening.settled(connection, record.plan_hash, self._watch, since=since)
            return other or self._begin(connection, run_id, record)

    def _begin(self, connection: Connection, run_id: str, record: EpisodeRecord) -> EpisodeWriter:
        me = processes.this_process()
        row = asdict(record) | {
            "id": episode_id(run_id, record.plan_hash),
            "run_id": run_id,
            "status": "started",
            "started": datetime.now(UTC),
            "pid": me.pid,
            "host": me.host,
            "process_started": me.started,
            "heartbeat": func.now(),
        }
        id, episode = str(row["id"]), EPISODE
        same = connection.execute(select(episode.c.status).where(episode.c.id == id)).scalar()
        if same is None:
            connection.execute(insert(episode).values(row))
        # a worker that died without a save: its episode begins again
        elif (
            same != "error"
            or reopening.reopen(connection, id, mark={}, process=me, watch=self._watch, anew=True)
            is None
        ):
            raise LogError(
                f"run {run_id} has played this plan already, as episode {id}; "
                "begin a new run to play it again"
            )
        return self._writer(id, me)

    def _writer(self, id: str, process: processes.Process, seconds: float = 0.0) -> EpisodeWriter:
        """Make an episode's writer, which gives signs of life where others can see the log."""
        writer = EpisodeWriter(id, self.writing, process=process, seconds=seconds)
        if self.shared:
            writer.heartbeat = Heartbeat(writer)
            self._heartbeats.add(writer.heartbeat)
        return writer

    @property
    def shared(self) -> bool:
        """Whether other processes can see the log: it is not in this one's memory."""
        return self.engine.url.database not in (None, "", ":memory:")

    def close_episode(self, id: str) -> None:
        """Mark an episode whose process is gone as an error, without waiting until it is stale.

        Raises:
            UnknownName, LogError: no such episode, it has ended, or its process lives here.
        """
        id = self.episode(id).id
        with self.writing() as connection:
            processes.close(connection, id)

    def mark(self, id: str) -> dict[str, int]:
        """Say how far an episode's rows go, for `reopen_episode`; see `reopening.mark_of`."""
        with self._reading() as connection:
            return reopening.mark_of(connection, id)

    def reopen_episode(
        self,
        id: str,
        mark: dict[str, int],
        *,
        seconds: float,
        queries_used: int,
        charged: int | None = None,
        **data: object,
    ) -> EpisodeWriter | None:
        """Write on at an episode that was broken off, without the rows after a mark.

        Args:
            id: of the episode.
            mark: how far its rows count; what was written later is removed.
            seconds: that it had been played until then.
            queries_used: images asked until then.
            charged: images that a victim elsewhere has charged, those asked later among them.
            data: goes into the event "resumed", with the reason why it was broken off.

        Returns:
            Its writer; None where it is not broken off, or somebody else took it up first.
        """
        with self.writing() as connection:
            me = processes.this_process()
            reason = reopening.reopen(
                connection, id, mark=mark, process=me, watch=self._watch, charged=charged
            )
        if reason is None:
            return None
        writer = self._writer(id, me, seconds)
        writer.event(
            reopening.RESUMED,
            f"goes on from a save; it had ended: {reason}",
            queries_used=queries_used,
            **data,
        )
        writer.flush()
        return writer

    def event(self, kind: str, message: str, **data: object) -> None:
        """Write down at once something that belongs to no episode.

        Raises:
            LogError: it cannot be written.
        """
        row = EventRow(time=datetime.now(UTC), kind=kind, message=message, data=data)
        with self.writing() as connection:
            connection.execute(insert(EVENT), asdict(row))
