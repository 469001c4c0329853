"""Counters of an episode that live on the device and are read at checkpoints."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from envs.defences.base import DeployedDefence
from envs.defences.hardening import overhead_of
from envs.game.digests import digests_on
from envs.game.rounds import AnsweredRequest, Round

_FEW = 4
"""Exits that are counted one by one on a CPU, which takes a quarter of an operation of torch."""


@dataclass(frozen=True, slots=True)
class SideTally:
    """What one kind of traffic cost and where it left.

    Attributes:
        answered: images answered.
        refused: images refused.
        exits: answers by exit, one row per defence of the defender.
        macs: multiply-accumulates spent.
        seconds: service time spent, measured.
    """

    answered: int
    exits: tuple[tuple[int, ...], ...]
    macs: float
    seconds: float
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """The counters of an episode at one moment.

    Attributes:
        rounds, used: rounds played and budget spent.
        attack, benign: cost and exits of the two kinds of traffic.
        benign_labelled, benign_correct: benign answers with a known label, and right ones.
        query_digest, answer_digest: running digests of the attacker's queries and answers.
    """

    rounds: int
    used: int
    attack: SideTally
    benign: SideTally
    benign_labelled: int
    benign_correct: int
    query_digest: str
    answer_digest: str


def wrong_share(before: Tally, now: Tally) -> float:
    """Give the share of benign queries since `before` that were answered wrongly; 0 of none."""
    asked = now.benign_labelled - before.benign_labelled
    right = now.benign_correct - before.benign_correct
    return 1 - right / asked if asked else 0.0


def compute_share(before: Tally, now: Tally, whole: int) -> float:
    """Give what the answers since `before` cost on average, as a share of the whole network."""
    macs = sum(
        b.macs - a.macs for a, b in ((before.attack, now.attack), (before.benign, now.benign))
    )
    count = now.attack.answered + now.benign.answered
    count -= before.attack.answered + before.benign.answered
    return macs / (count * whole) if count else 0.0


class DeviceTimer:
    """Sums service time: the wall clock on a CPU, device events on CUDA, read without a stall."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds = self._began = 0.0
        self._start: torch.cuda.Event
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __enter__(self) -> None:
        """Begin to measure; a timer runs once at a time."""
        if self._cuda:
            self._start = torch.cuda.Event(enable_timing=True)
            self._start.record()
        else:
            self._began = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        """Add the time since the start."""
        if not self._cuda:
            self._seconds += time.perf_counter() - self._began
            return
        stop = torch.cuda.Event(enable_timing=True)
        stop.record()
        self._events.append((self._start, stop))
        if len(self._events) >= 4096:  # bounds memory; the oldest have long finished
            self.read()

    def read(self) -> float:
        """Return the seconds so far; waits for the device."""
        for start, stop in self._events:
            stop.synchronize()
            self._seconds += start.elapsed_time(stop) / 1e3
        self._events.clear()
        return self._seconds

    def set(self, seconds: float) -> None:
        """Go on from so many seconds."""
        self._seconds = seconds
        self._events.clear()


class _Side:
    """Device counters of one kind of traffic."""

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        self.answered = self.refused = 0
        self.exits = torch.zeros(shape, dtype=torch.int64, device=device)
        # views: a defence's row is looked up at every request
        self.rows = self.exits.unbind()
        self.rows_here = [row.numpy() for row in self.rows] if device.type == "cpu" else None
        self.off = [0] * shape[0]  # images that each defence answered at strength 0
        self.timer = DeviceTimer(device)

    def count(self, request: AnsweredRequest) -> None:
        if request.refused is not None:
            self.refused += request.images.shape[0]
            return
        exits, decision = request.exits, request.countermeasure
        count = exits.shape[0]
        self.answered += count
        if decision.strength == 0:
            self.off[decision.defence] += count
        if self.rows_here is not None and count <= _FEW:
            here = self.rows_here[decision.defence]
            for exit in exits.tolist():
                here[exit] += 1
        else:
            self.rows[decision.defence].scatter_add_(0, exits, _ones(count, exits.device))

    def read(self, macs: Tensor, lengths: Sequence[int], spared: Sequence[float]) -> SideTally:
        exits = self.exits.cpu()
        rows = tuple(
            tuple(int(count) for count in row[:length])
            for row, length in zip(exits.tolist(), lengths, strict=True)
        )
        spent = float((exits.double() * macs).sum()) - self.spared(spared)
        return SideTally(self.answered, rows, spent, self.timer.read(), self.refused)

    def spared(self, each: Sequence[float]) -> float:
        """Sum what answers at strength 0 cost less than those of the hardened network."""
        return sum(count * macs for count, macs in zip(self.off, each, strict=True))

    def state(self) -> tuple[int, int, Tensor, float, list[int]]:
        return self.answered, self.refused, self.exits, self.timer.read(), list(self.off)

    def restore(self, state: tuple[int, int, Tensor, float, list[int]]) -> None:
        self.answered, self.refused, exits, seconds, off = state
        self.off = list(off)
        self.exits.copy_(exits)
        self.timer.set(seconds)


class Counters:
    """Counts the rounds of a game without making the device wait.

    Args:
        deployed_defences: the defences of the game.
        device: where exits are counted.

    Attributes:
        attack_timer, benign_timer: measure the service of each kind of traffic.
    """

    def __init__(self, deployed_defences: Sequence[DeployedDefence], device: torch.device) -> None:
        self._lengths = [defence.victim.num_exits for defence in deployed_defences]
        shape = (len(deployed_defences), max(self._lengths))
        # cost of one answer by defence and exit, on the host: used when counters are read
        self._macs = torch.zeros(shape, dtype=torch.float64)
        for row, defence in enumerate(deployed_defences):
            if defence.victim.is_remote:  # unknown; the log gets no numbers of it
                continue
            costs = torch.tensor(defence.victim.profile.macs, dtype=torch.float64)
            self._macs[row, : len(costs)] = costs + overhead_of(defence.defence, name=defence.name)
        self._spared = [_spared(deployed) for deployed in deployed_defences]
        self._attack, self._benign = _Side(shape, device), _Side(shape, device)
        self.attack_timer, self.benign_timer = self._attack.timer, self._benign.timer
        self._labelled = torch.zeros((), dtype=torch.int64, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._digests = digests_on(device)

    @property
    def answered(self) -> int:
        """Images answered so far, to all clients."""
        return self._attack.answered + self._benign.answered

    def on_round(self, round: Round) -> None:
        """Count the answers, benign users' right ones, and fold the round into the digests."""
        for request in round.benign:
            self._benign.count(request)
            if request.labels is not None:
                self._count_right(request, request.labels)
        self._attack.count(round.attack)
        self._digests.add(round.attack.images, round.given)

    def attack_counters(self) -> tuple[Tensor, Tensor]:
        """Return copies of the attacker's exits, summed over defences, and of its MACs; no sync."""
        exits = self._attack.exits
        macs = (exits.double() * self._macs.to(exits.device, non_blocking=True)).sum()
        return exits.sum(0), macs - self._attack.spared(self._spared)

    def _count_right(self, request: AnsweredRequest, labels: Tensor) -> None:
        known = labels >= 0
        self._labelled += known.sum()
        if request.refused is None:  # what is refused is not right
            self._correct += (known & (request.posteriors.argmax(1) == labels)).sum()

    def state(self) -> tuple[object, ...]:
        """Return every counter; see `restore`."""
        sides = self._attack.state(), self._benign.state()
        return (*sides, self._labelled, self._correct, self._digests.read())

    def restore(self, state: tuple[Any, ...]) -> None:  # Any: as `state` returns it
        """Go on from the counters of another game of the same plan."""
        attack, benign, self._labelled, self._correct, digests = state
        self._digests.restore(digests)
        self._attack.restore(attack)
        self._benign.restore(benign)

    def read(self, *, rounds: int, used: int) -> Tally:
        """Read every counter; waits for the device."""
        queries, answers = self._digests.read()
        return Tally(
            rounds=rounds,
            used=used,
            attack=self._attack.read(self._macs, self._lengths, self._spared),
            benign=self._benign.read(self._macs, self._lengths, self._spared),
            benign_labelled=int(self._labelled),
            benign_correct=int(self._correct),
            query_digest=queries,
            answer_digest=answers,
        )


def _spared(deployed: DeployedDefence) -> float:
    """Return the MACs of a whole hardened network beyond those of the unhardened one."""
    if deployed.victim.is_remote:
        return 0.0
    bare = deployed.bare or deployed.victim
    whole = deployed.victim.profile.macs[-1] + overhead_of(deployed.defence, name=deployed.name)
    return float(whole - bare.profile.macs[-1])


@lru_cache(maxsize=8)
def _ones(count: int, device: torch.device) -> Tensor:
    """Return (count,) int64 ones."""
    with torch.inference_mode(False):
        return torch.ones(count, dtype=torch.int64, device=device)
