"""The referee's end of an isolated attacker: to the game it is an attacker like any other."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from agents.base import ArchitectureGuess, Attacker, Kit
from arena.isolation import launch
from arena.isolation.answering import answer
from arena.isolation.channel import (
    Channel,
    ChannelError,
    ClosedChannelError,
    count_of,
    text_of,
)
from arena.isolation.handover import HandedOver, received
from arena.isolation.job import (
    Job,
    Network,
    Player,
    pool_file,
    pool_outline,
    state_text,
    torch_settings,
)
from envs.errors import MOST_CHARACTERS, PlayerError, one_line
from envs.oracle import Oracle

# `Any` in this file: JSON as it was parsed, and parameters of players.

START_SECONDS = 600.0
"""A process must have loaded its libraries within so many seconds."""

HANDOVER_SECONDS = 600.0
"""A clone that is asked for must have come within so many seconds."""

GRACE = 10.0
"""Seconds that a stopped attacker has to hand its clone over."""

_STEPS_BYTES = 2**26
_WEIGHTS_BYTES = 8 * 2**30


class ChildError(PlayerError):
    """What ended an attack in another process.

    Attributes:
        traceback: of that process, as it told it.
    """

    def __init__(self, line: str, traceback: str = "") -> None:
        super().__init__(line)
        self.traceback = "".join(c for c in traceback if c == "\n" or c.isprintable())


class Contestant(NamedTuple):
    """Who attacks in a process of its own, and what is lent to it.

    Attributes:
        attacker, name, wrappers: of the plan.
        clone: the scenario's network.
        new_network: builds it here, whatever its weights.
        clones: the random stream that its clones are drawn from.
        files: that the network is built from.
        memory: bytes the process may take.
        note: is told, once, what this system cannot keep from it.
    """

    attacker: Player
    name: str
    wrappers: tuple[Player, ...]
    clone: Network
    new_network: Callable[[], nn.Module]
    clones: torch.Generator
    files: Sequence[Path]
    memory: int
    note: Callable[[str], None]


class IsolatedAttacker(Attacker):
    """Plays an attacker in a process of its own.

    Args:
        contestant: who attacks.
    """

    def __init__(self, contestant: Contestant) -> None:
        self._who = contestant
        self._started: launch.Started | None = None
        self._ended: Mapping[str, Any] | None = None
        self._last: nn.Module | None = None
        self._network: nn.Module | None = None
        self._device = torch.device("cpu")

    def __str__(self) -> str:
        return self._who.name

    def start(self, oracle: Oracle, kit: Kit) -> None:
        """Start the process, and wait until it has loaded what it computes with.

        Raises:
            ChildError: it does not start.
        """
        self._device = kit.device
        pool = pool_file(kit.surrogate_pool)
        try:
            self._started = started = self._start(pool)
        finally:
            if pool >= 0:
                os.close(pool)
        try:
            self._begin(started.channel, oracle, kit)
        except (ChannelError, TimeoutError) as error:
            raise self._broken(ChannelError(str(error) or "it does not start")) from error
        except BaseException:
            self.close()
            raise

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Serve the process until its attack is over.

        Raises:
            ChildError: its attack failed, it died, or it broke the protocol.
        """
        started = self._started
        assert started is not None
        try:
            while self._ended is None:
                self._serve(started.channel, oracle, kit)
        except ChannelError as error:
            raise self._broken(error) from error
        except BaseException:
            self._stop(started)
            raise
        if self._ended.get("how") == "error":
            raise ChildError(
                text_of(self._ended, "line")[:MOST_CHARACTERS] or "it failed without a reason",
                text_of(self._ended, "traceback")[:20_000],
            )

    @property
    def clone(self) -> nn.Module | None:  # type: ignore[override]  # asked for anew at each look
        """The clone as it stands; the last that was handed over once the process is gone.

        Raises:
            PlayerError: what it hands over is no clone, or does not come.
        """
        if self._started is not None:
            try:
                self._last = self._handed_over(self._started.channel)
            except ChannelError as error:
                raise self._broken(error) from error
        return self._last

    @property
    def inferred(self) -> ArchitectureGuess | None:  # type: ignore[override]  # told at the end
        """What it believes about the victim.

        Raises:
            PlayerError: what it told is no guess.
        """
        told = self._ended or {}
        if isinstance(fault := told.get("inferred_fault"), str):
            raise PlayerError(one_line(PlayerError(fault[:300])))
        values = told.get("inferred")
        if values is None:
            return None
        known = {field.name for field in fields(ArchitectureGuess)}
        if not isinstance(values, dict) or not set(values) <= known:
            raise PlayerError("inferred: expected an ArchitectureGuess or None")
        return ArchitectureGuess(**values)

    def close(self) -> None:
        """End the process."""
        if self._started is not None:
            launch.end(self._started)
            self._started = None

    def _start(self, pool: int) -> launch.Started:
        who = self._who
        uses = [*launch.uses_of((who.attacker, *who.wrappers)), who.clone.use]
        return launch.start("attack", uses, files=who.files, pool=pool)

    def _begin(self, channel: Channel, oracle: Oracle, kit: Kit) -> None:
        hello = channel.receive(START_SECONDS)
        if gap := text_of(hello, "gap"):
            self._who.note(gap)
        who, pool = self._who, kit.surrogate_pool
        job = Job(
            attacker=who.attacker,
            name=who.name,
            wrappers=who.wrappers,
            clone=who.clone,
            threat=oracle.threat,
            remaining=oracle.remaining,
            device=str(kit.device),
            streams={"attacker": state_text(kit.generator), "clone": state_text(who.clones)},
            pool=None if pool is None else pool_outline(pool),
            memory=who.memory,
            settings=torch_settings(),
        )
        channel.send("job", **job.as_fields())
        if channel.receive(START_SECONDS)["say"] != "ready":
            raise ChannelError("it does not start")

    def _serve(self, channel: Channel, oracle: Oracle, kit: Kit) -> None:
        """Answer one message."""
        message = channel.receive()
        if message["say"] == "query":
            answer(channel, oracle, count_of(message, "count"), message.get("account"))
        elif message["say"] == "report":
            kit.on_report(_table(message, "values"))
        elif message["say"] == "note":
            kit.on_note(
                text_of(message, "kind"), text_of(message, "message"), _table(message, "data")
            )
        elif message["say"] == "ended":
            self._ended = message
        else:
            raise ChannelError(f"{message['say'][:40]!a} out of turn")

    def _handed_over(self, channel: Channel) -> nn.Module | None:
        """Ask for the clone, and build a module of what comes."""
        try:
            channel.send("clone")
            message = channel.receive(HANDOVER_SECONDS)
        except TimeoutError as error:
            raise ChannelError(f"no clone came within {HANDOVER_SECONDS:.0f} s") from error
        if message["say"] != "clone":
            raise ChannelError(f"{message['say'][:40]!a} instead of a clone")
        form = text_of(message, "form")
        if form == "none":
            return None
        if form == "refused":
            raise PlayerError(one_line(PlayerError(text_of(message, "line")[:1000])))
        weights, steps = count_of(message, "weights"), count_of(message, "steps")
        if weights > min(_WEIGHTS_BYTES, self._who.memory) or steps > _STEPS_BYTES:
            raise PlayerError(f"a clone of {weights} bytes, and a program of {steps}, is too large")
        written = HandedOver(
            bytes(channel.get_bytes(weights)), bytes(channel.get_bytes(steps, weights))
        )
        if self._network is None:
            self._network = self._who.new_network()
        return received(written, self._network, self._device)

    def _stop(self, started: launch.Started) -> None:
        """Break the attack off; its clone can still be handed over."""
        if self._started is None:
            return
        end = time.monotonic() + GRACE
        with suppress(ProcessLookupError):
            os.kill(started.process.pid, signal.SIGINT)
        try:
            while self._ended is None:
                message = started.channel.receive(max(0.0, end - time.monotonic()))
                if message["say"] == "ended":
                    self._ended = message
        except (ChannelError, TimeoutError, KeyboardInterrupt):
            self.close()

    def _broken(self, error: ChannelError) -> ChildError:
        """Say why the line broke; the process is ended, if it has not ended itself."""
        started = self._started
        if started is not None:
            with suppress(subprocess.TimeoutExpired):
                started.process.wait(1.0)  # so that its own exit code is told
        self.close()
        if started is None or not isinstance(error, ClosedChannelError):
            return ChildError(f"the attacker's process broke the protocol: {error}")
        return ChildError(f"the attacker's process {_reason(started.process.returncode)}")


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was ended by {name}"
    return f"ended by itself, with exit code {code}"


def _table(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = message.get(name)
    if not isinstance(found, dict):
        raise ChannelError(f"'{name}' is no table")
    return found
