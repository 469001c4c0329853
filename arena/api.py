"""The Python interface: play a scenario in this process, or read a log, from a notebook."""

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from arena.analysis import frames
from arena.log.episode_filter import EpisodeFilter
from arena.log.rows import EpisodeRow
from arena.log.store import Log
from arena.runner.match import play, require_playable
from arena.runner.progress import Watcher
from arena.runner.saves.schedule import SECONDS, Saving
from arena.scenario import Scenario
from arena.scenario.given import Player, scenario_of

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from arena.analysis.timeline import TimelineStep
    from arena.replay.verify import Verification

# `Any` in this file: tables and frames, which carry no types.

_log = logging.getLogger("arena")


def run(
    scenario: str | Path | Scenario,
    *,
    attackers: Player | Sequence[Player] | None = None,
    defenders: Player | Sequence[Player] | None = None,
    seeds: int | Iterable[int] | None = None,
    overrides: Mapping[str, Any] | None = None,
    log: str | Path | None = None,
    device: str | None = None,
    workers: int | str = 1,
    fresh: bool = False,
    save_every: float = SECONDS,
    progress: bool = False,
) -> "pd.DataFrame | list[dict[str, Any]]":
    """Play a scenario, and return one row for each of its episodes.

    Episodes that the log has are not played again. A class is identified by its source: edited, it
    is played again. Where no source can be read, it is played each time and a warning is logged.

    Args:
        scenario: a file, the name of a scenario that ships, or a loaded one.
        attackers: who attacks, instead of the scenario's. A name is one of the scenario's own
            attackers with its parameters, or else a registered one.
        defenders: who defends, likewise: defenders or defences.
        seeds: instead of the scenario's.
        overrides: values by dotted key, as `--set` takes them: {"threat.budget": 3000}. They are
            set after `attackers` and `defenders`.
        log: a file or an SQLAlchemy URL; `ARENA_LOG` if set, else arena.db in this folder. It is
            kept, and commands such as `arena report` read it.
        device: "cpu", "cuda" or "cuda:1"; an accelerator if there is one.
        workers: episodes at once, each in a process of its own, or "ray" for a Ray cluster. Above 1
            a class has to be in a module that other processes can import.
        fresh: play what was played before again, and resume nothing.
        save_every: seconds between saves, from which a killed episode resumes; 0 saves nothing.
        progress: print lines of progress on standard error.

    Returns:
        the episodes as `OpenLog.episodes` gives them, or as dicts where pandas is not installed. A
        failed one has its `error`.

    Raises:
        ScenarioError, UnknownName: the scenario, a name or a parameter is wrong.
        ArenaError: data are missing, or the log cannot be written.
        KeyboardInterrupt: the user broke off; what was measured is in the log.
    """
    playable = scenario_of(
        scenario, attackers, defenders, seeds, overrides or {}, apart=str(workers) != "1"
    )
    device = device or _accelerator()
    require_playable([playable], log, device=device, workers=workers)
    with Log.open(log) as store:
        result = play(
            playable,
            log=store,
            watcher=_Reporter(store, progress=progress),
            device=device,
            fresh=fresh,
            workers=workers,
            command=f"arena.run({playable.name!r})",
            saving=Saving(seconds=save_every),
        )
    if result.interrupted:
        raise KeyboardInterrupt
    try:
        import pandas  # noqa: F401
    except ImportError:
        return [asdict(row) for row in result.episodes]
    return frames.episode_frame(result.episodes)


class OpenLog:
    """A log that is open for reading; `open_log` makes it.

    Frames need pandas. Each takes the fields of `arena.log.episode_filter.EpisodeFilter` by name:
    `log.checkpoints(attacker="dfme", status="success")`.
    """

    def __init__(self, log: Log) -> None:
        self._log = log

    def episodes(self, **which: Any) -> "pd.DataFrame":
        """Give one row for each episode, with its outcome."""
        return frames.episodes(self._log, EpisodeFilter(**which))

    def checkpoints(self, **which: Any) -> "pd.DataFrame":
        """Give one row for each measurement along the budget."""
        return frames.checkpoints(self._log, EpisodeFilter(**which))

    def rounds(self, **which: Any) -> "pd.DataFrame":
        """Give one row for each bucket of rounds."""
        return frames.rounds(self._log, EpisodeFilter(**which))

    def inferences(self, **which: Any) -> "pd.DataFrame":
        """Give one row for each thing an attacker said about the victim, beside the truth."""
        return frames.inferences(self._log, EpisodeFilter(**which))

    def events(self, **which: Any) -> "pd.DataFrame":
        """Give one row for each thing that happened in an episode."""
        return frames.events(self._log, EpisodeFilter(**which))

    def accounts(self, **which: Any) -> "pd.DataFrame":
        """Give one row for each account that the attacker asked from."""
        return frames.accounts(self._log, EpisodeFilter(**which))

    def exits(self, **which: Any) -> "pd.DataFrame":
        """Give one row for each bucket, kind of traffic and exit."""
        return frames.exits(self._log, EpisodeFilter(**which))

    def episode(self, id: str) -> EpisodeRow:
        """Return an episode by its id, or by a beginning that no other shares.

        Raises:
            UnknownName, LogError: no episode has it, or more than one.
        """
        return self._log.episode(id)

    def replay(
        self,
        id: str,
        *,
        verify: bool = False,
        device: str | None = None,
        trust_plugins: bool = False,
    ) -> "list[TimelineStep] | Verification":
        """Return the steps of an episode from the log, or play it again and compare.

        Args:
            id: of the episode, or a beginning of it.
            verify: play it again. A player given as a class must have been given to `arena.run` in
                this process, or be in a module.
            device: where to play; the original's where absent.
            trust_plugins: whether files and modules that the log names may be imported.

        Raises:
            ArenaError: no such episode, or one that cannot be played again, or that names code
                which is not trusted.
        """
        if verify:
            from arena.replay.verify import verify as play_again

            return play_again(self._log, id, device=device, trust_plugins=trust_plugins)
        from arena.analysis.timeline import timeline_steps

        return timeline_steps(self._log, self.episode(id))

    def clone(self, id: str, *, trust_plugins: bool = False) -> "nn.Module":
        """Return the clone that an episode of a scenario with keep = ["clone"] left.

        It maps (n, channels, height, width) images in [0, 1] to (n, K) logits, on the CPU, and runs
        no code of the attacker's.

        Args:
            id: of the episode, or a beginning of it.
            trust_plugins: whether a file or module that the log names as the scenario's network may
                be imported.

        Raises:
            ArenaError: no such episode, no clone of it, or one that cannot be read.
        """
        from arena.recording.kept_clones import kept_clone, load_clone

        path = kept_clone(self._log, self.episode(id).id)
        return load_clone(path, trust_plugins=trust_plugins)

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_log(path: str | Path | None = None) -> OpenLog:
    """Open a log for reading.

    Args:
        path: a file or an SQLAlchemy URL; `ARENA_LOG` if set, else arena.db in this folder.

    Raises:
        LogError: there is none, or it cannot be read.
    """
    return OpenLog(Log.open(path, create=False))


def _accelerator() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class _Reporter(Watcher):
    """Logs a warning for each episode that failed or could not be saved.

    Args:
        log: where the episodes are written.
        progress: print a line for what is prepared, played and skipped too.
    """

    def __init__(self, log: Log, *, progress: bool) -> None:
        self._store, self._progress = log, progress

    def line(self, text: str) -> None:
        """Print what is being prepared."""
        if self._progress:
            print(text, file=sys.stderr)

    def begin(self, title: str, index: int, total: int) -> None:
        """Print that an episode starts."""
        self.line(f"[{index + 1}/{total}] {title}")

    def skip(self, title: str, episode_id: str) -> None:
        """Print that the log has an episode already."""
        self.line(f"{title}: skipped, the log has it as {episode_id}")

    def end(self, title: str, episode_id: str, status: str, error: str | None) -> None:
        """Warn of a failure, and of saves that could not be made."""
        self.line(f"{title}: {status} ({episode_id})")
        if status != "success":
            _log.warning("%s: %s: %s", title, status, error or "no reason given")
        for event in self._store.events(episode_id):
            if event.kind == "not-saved":
                _log.warning("%s: %s", title, event.message)
