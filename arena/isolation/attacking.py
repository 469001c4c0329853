"""Plays an attacker in its own process; the other end of the line is `arena.isolation.attacker`."""

import json
import mmap
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from agents.base import ArchitectureGuess, Attacker, Kit, granted
from arena.isolation.channel import Channel, ClosedChannelError
from arena.isolation.handover import Exporter, HandedOver
from arena.isolation.job import Job, apply_settings, generator_at, labels_place
from arena.isolation.sandbox import limit_memory
from arena.log.player_values import checked_data, checked_message, checked_name, checked_numbers
from arena.registry import players
from envs.data.images import ImageSet
from envs.errors import ArenaError, BudgetExhausted, QueryError, Refused, one_line
from envs.game.accounts import whole_account
from envs.nets import registry
from envs.nets.given_weights import take_weights
from envs.nets.staged import Staged
from envs.types import Response, ThreatModel, check_images

# `Any` in this file: JSON as it was parsed.

_REFUSALS: dict[str, type[ArenaError]] = {
    "BudgetExhausted": BudgetExhausted, "QueryError": QueryError, "Refused": Refused
}  # fmt: skip


class _Line:
    """Sends and receives for all threads of the attacker, one exchange at a time.

    Ctrl-C is the referee's stop; it waits until no exchange is cut in two.
    """

    def __init__(self, channel: Channel, exporter: Exporter) -> None:
        self.channel, self._exporter = channel, exporter
        self.lock = threading.RLock()
        self.attacker: Attacker | None = None
        self._sending = False
        self._stop = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Stop the attack, as a handler of signals does."""
        self._stop = True
        if not self._sending:
            raise KeyboardInterrupt

    def send(self, say: str, **values: object) -> None:
        """Send a message whole."""
        with self.lock:
            self._sending = True
            try:
                self.channel.send(say, **values)
            finally:
                self._sending = False
        if self._stop and say in ("query", "report", "note"):
            raise KeyboardInterrupt

    def ask(self, say: str, **values: object) -> dict[str, Any]:
        """Send a message, and return its answer; a clone is handed over meanwhile if it is due."""
        self.send(say, **values)
        while (answer := self.channel.receive())["say"] == "clone":
            self.hand_over()
        return answer

    def hand_over(self) -> None:
        """Send the attacker's clone, as it stands."""
        assert self.attacker is not None
        try:
            clone = self.attacker.clone
            if clone is None:
                self.send("clone", form="none")
                return
            written: HandedOver = self._exporter.hand_over(clone)
        except BaseException as fault:  # a player's own code raises what it likes
            self.send("clone", form="refused", line=one_line(fault)[:1000])
            if isinstance(fault, KeyboardInterrupt) and self._stop:
                raise
            return
        place = self.channel.put_bytes(written.weights)
        self.channel.put_bytes(written.steps, place)
        self.send(
            "clone", form="handed over", weights=len(written.weights), steps=len(written.steps)
        )


class IsolatedOracle:
    """The oracle of an isolated attacker; see `envs.oracle.Oracle`."""

    def __init__(self, line: _Line, job: Job) -> None:
        self.__line, self.__job, self.__remaining = line, job, job.remaining

    @property
    def threat(self) -> ThreatModel:
        """What may be asked and what an answer shows."""
        return self.__job.threat

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        return self.__remaining

    def query(self, images: Tensor, account: int | None = None) -> Response:
        """Ask for answers; see `envs.oracle.Oracle.query`."""
        threat, device = self.__job.threat, torch.device(self.__job.device)
        plain, asking = check_images(images, threat.image_shape), whole_account(account)
        line = self.__line
        with line.lock:
            line.channel.put(plain)
            answer = line.ask("query", count=len(plain), account=asking)
            if answer["say"] == "refused":
                self.__remaining = answer["remaining"]
                raise _REFUSALS.get(answer["kind"], ArenaError)(answer["text"], **answer["more"])
            self.__remaining = answer["remaining"]
            size = (len(plain), threat.num_classes)
            posteriors, place = line.channel.get(size, torch.float32)
            latency = None
            if answer["latency"]:
                latency = line.channel.get((len(plain),), torch.float64, place)[0].to(device)
        return Response(posteriors.to(device), latency)


def attack(channel: Channel, pool_file: int) -> None:
    """Play the attack that the next message describes, and hand its clone over when asked."""
    job = Job.of(channel.receive())
    apply_settings(job.settings)
    device = torch.device(job.device)
    own = _network(job, torch.Generator())
    line = _Line(channel, Exporter(own.to(device), job.threat.image_shape))
    signal.signal(signal.SIGINT, line.handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        channel.send("ready")
        ended = _attack(job, line, device, pool_file)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a stop has nothing to stop any more
        line.send("ended", **ended)
        while channel.receive()["say"] == "clone":
            line.hand_over()
    except ClosedChannelError:
        sys.exit(0)


def _attack(job: Job, line: _Line, device: torch.device, pool_file: int) -> dict[str, Any]:
    how, text, trace = "returned", "", ""
    try:
        kit = _kit(job, line, device, pool_file)
        limit_memory(job.memory)
        spec = job.attacker
        line.attacker = attacker = players.create_attacker(
            spec, job.wrappers, prefix=("attackers", job.name)
        )
        threat = job.threat
        granted(
            attacker,
            labels=threat.labels,
            latency_visible=threat.latency_visible,
            pool=job.pool is not None,
        )
        attacker.attack(IsolatedOracle(line, job), kit)
    except BudgetExhausted:
        pass
    except ClosedChannelError:
        raise
    except BaseException as fault:  # a player's own code raises what it likes
        how, text, trace = "error", one_line(fault), traceback.format_exc()[-20_000:]
    return {"how": how, "line": text, "traceback": trace, **_inferred(line.attacker)}


def _kit(job: Job, line: _Line, device: torch.device, pool_file: int) -> Kit:
    clones = generator_at(job.streams["clone"], torch.device("cpu"))

    def new_clone() -> torch.nn.Module:
        return _network(job, clones).to(device)

    def report(values: Mapping[str, float]) -> None:
        line.send("report", values=checked_numbers(values, "kit.report"))

    def note(kind: str, message: str, data: Mapping[str, object]) -> None:
        kind = checked_name(kind, "kit.note: kind")
        what = f"kit.note {kind!a}"
        line.send(
            "note", kind=kind, message=checked_message(message, what), data=checked_data(data, what)
        )

    return Kit(
        device=device,
        generator=generator_at(job.streams["attacker"], device),
        new_clone=new_clone,
        surrogate_pool=None if job.pool is None else _pool(job.pool, pool_file).to(device),
        on_report=report,
        on_note=note,
    )


def _network(job: Job, generator: torch.Generator) -> Staged:
    clone = job.clone
    network = registry.build(
        clone.use,
        num_classes=job.threat.num_classes,
        image_shape=job.threat.image_shape,
        generator=generator,
        mean=clone.mean,
        std=clone.std,
        **clone.params,
    )
    if clone.weights:
        take_weights(network, Path(clone.weights))
    return network


def _pool(outline: Mapping[str, Any], file: int) -> ImageSet:
    count, channels, height, width = outline["shape"]
    data = mmap.mmap(file, 0, access=mmap.ACCESS_COPY)
    size = count * channels * height * width
    pixels = torch.frombuffer(data, dtype=torch.uint8, count=size).view(outline["shape"])
    labels = torch.frombuffer(data, dtype=torch.int64, count=count, offset=labels_place(size))
    return ImageSet(
        pixels, labels, outline["num_classes"], outline["name"], tuple(outline["classes"])
    )


def _inferred(attacker: Attacker | None) -> dict[str, Any]:
    """Return what the attacker believes, in JSON values, or what is wrong with it."""
    # a player writes what it likes, whatever the annotation says
    guess: object = None if attacker is None else attacker.inferred
    if guess is None:
        return {"inferred": None}
    if not isinstance(guess, ArchitectureGuess):
        what = f"expected an ArchitectureGuess or None, got {type(guess).__name__}"
        return {"inferred": None, "inferred_fault": f"inferred: {what}"}
    values = {field.name: getattr(guess, field.name) for field in fields(guess)}
    faults = []
    for name, value in values.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            try:
                values[name] = json.loads(json.dumps(value, default=_number))
            except (TypeError, ValueError, RecursionError):
                faults.append(f"inferred.{name}: expected JSON values, got {type(value).__name__}")
    if faults:
        return {"inferred": None, "inferred_fault": faults[0]}
    return {"inferred": values}


def _number(value: object) -> object:
    """Return the plain number behind one of NumPy's, and a plain table for a mapping."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Tensor) or not hasattr(value, "item"):
        raise TypeError(type(value).__name__)
    return value.item()
