"""Asks an oracle and times its answers, with a reference image between the probes.

The references share the server's slow moods with the probes beside them, which is what those can
be corrected by. Every image that is asked, references and repeats included, is charged.

Notes:
    Requests hold many images: this game's server handles the images of a request one by one
    unless the scenario says otherwise, so that each answer has a time of its own and one large
    request is as good as many small ones, and much faster. NoiseFit compares the two and
    falls back to one image per request where neighbours delay each other.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.timing_probe import timing_noise as jitter
from agents.timing_probe.held_up import held_up, strays_like
from agents.timing_probe.kmeans import Floats
from agents.timing_probe.mixture import ExitCount, count_exits
from agents.timing_probe.sample import Sample
from agents.timing_probe.timing_noise import NoiseFit, Statistic
from envs.data.images import to_pixels
from envs.errors import BudgetExhausted
from envs.oracle import Oracle
from envs.types import ThreatModel

_REQUEST = 512
_STEADY = 8  # probes per reference where nothing drifts
_DRIFTING = 2  # and where something does
_COMPARABLE = 4  # repeats whose halves tell how far they are to be trusted
_FASTEST = (0.1, 0.25, 0.5, 1.0)  # share of the repeats that count, from quiet to busy
_TRUSTED = 0.6  # belief in a number of exits from which another number is a contradiction
_SAME = 1e-4  # distance of two posteriors that rounding explains


class Reading(NamedTuple):
    """What the repeats of images show.

    Attributes:
        times: (n,) log-times, one an image.
        exits: how many they show.
        noise: standard deviation of a time, the median of the images'; 0 where repeats tell none.
    """

    times: Floats
    exits: ExitCount
    noise: float = 0.0


class Stopwatch:
    """Times answers.

    Args:
        oracle: is asked.
        reference: (1, c, h, w), asked between the probes.
        rough: see below.

    Attributes:
        calibration: what repeats of the reference said about the clock.
        pixels, posteriors: (n, c, h, w) uint8 and (n, K) of each request for new images: what
            there is to learn from if a later one is refused.
        refused: whether a request was; no other is made then.
        rough: whether the server is at work for others, too, so that repeats tell more than new
            images, and the next reference nothing of a stray answer.
    """

    def __init__(self, oracle: Oracle, reference: Tensor, *, rough: bool = False) -> None:
        self._oracle, self._reference = oracle, reference
        self._asked = 0
        self._references: list[tuple[float, float]] = []  # position and log-time
        self._request = _REQUEST
        self._soft = oracle.threat.labels == "soft"
        self.pixels: list[Tensor] = []
        self.posteriors: list[Tensor] = []
        self.calibration = NoiseFit(0.0, 0.0, 0.0, False, False)
        self.rough, self.refused = rough, False

    @property
    def threat(self) -> ThreatModel:
        """What may be asked."""
        return self._oracle.threat

    @property
    def remaining(self) -> int:
        """Queries that may still be asked."""
        return 0 if self.refused else self._oracle.remaining

    @property
    def probes_per_reference(self) -> int:
        """Probes between two references.

        0 asks none: where references leave at random exits, and on a rough clock, whose next
        moment they tell nothing of.
        """
        if self.calibration.fresh_exits or self.rough:
            return 0
        return _DRIFTING if self.calibration.drifts else _STEADY

    def calibrate(self, count: int) -> None:
        """Spend `count` queries, at least 6, on the reference: a third of them one by one.

        Raises:
            BudgetExhausted: not even the first is answered.
        """
        copies = self._reference.expand(count, -1, -1, -1)
        alone = [self._ask(copies[:1])]
        self._keep(copies[:1], alone[0][0])
        try:
            alone += [self._ask(copies[:1]) for _ in range(count // 3 - 1)]
            answers, together = self._ask(copies[count // 3 :])
        except BudgetExhausted:
            self.refused = True
            return
        self.calibration = jitter.calibrate(
            np.concatenate([times for _, times in alone]),
            together,
            same_answers=self._soft and _same(torch.cat([answers, *(row for row, _ in alone)])),
        )
        if self.calibration.batched:
            self._request = 1
            return  # times of a full request say nothing of those to come
        times = np.concatenate([*(times for _, times in alone), together])
        self._references += enumerate(times.tolist())

    def cost(self, images: int) -> int:
        """Return the queries that timing so many images once takes."""
        every = self.probes_per_reference
        return images + (images // every if every else 0)

    def affordable(self, queries: int) -> int:
        """Return how many images can be timed once with so many queries."""
        every = self.probes_per_reference
        images = (queries * every + every) // (every + 1) if every else queries
        return images if self.cost(images) <= queries else images - 1

    def time(self, images: Tensor, repeats: int = 1) -> Sample:
        """Ask new (n, c, h, w) images, all of them once before any of them again.

        A refusal leaves fewer images, perhaps none, or fewer repeats.
        """
        return self.repeat(self._time_once(images, new=True), repeats - 1)

    def repeat(self, sample: Sample, repeats: int) -> Sample:
        """Ask the images of a sample so many times more; fewer times where one is refused."""
        for _ in range(repeats):
            if self.refused:
                break
            more = self._time_once(sample.images)
            if len(more) == len(sample):
                sample = sample.and_repeats(more)
        return sample

    def read(self, sample: Sample) -> Reading:
        """Count the exits that images left from.

        On a rough clock, from four repeats on, repeats are summed up in several ways, and the one
        counts by which exits are told apart best. Ways that contradict it halve the belief.
        """
        if not self.rough or sample.repeats < _COMPARABLE or self.calibration.fresh_exits:
            times = self.times(sample)
            return Reading(times, count_exits(times))
        ways = [_read(sample.logs, share) for share in _FASTEST]
        best = max(ways, key=lambda way: (round(way.exits.confidence, 2), way.exits.separation))
        others = (way.exits for way in ways if way.exits.exits != best.exits.exits)
        if not any(count.confidence >= _TRUSTED for count in others):
            return best
        return best._replace(exits=replace(best.exits, confidence=best.exits.confidence / 2))

    def times(self, sample: Sample) -> Floats:
        """Return (n,) log-times, free of drift and jitter as far as references show them."""
        if not self._references or self.calibration.fresh_exits:
            return jitter.summarise(sample.logs, "mean")
        return jitter.summarise(sample.logs - self._drift(sample), self._statistic())

    def _drift(self, sample: Sample) -> Floats:
        """Return the (n, repeats) drift that the references show, 0 where they show none."""
        positions, logs = np.asarray(self._references).T
        window = jitter.best_window(logs, positions)
        at = sample.positions.ravel()
        return jitter.drift_at(at, logs, positions, window=window).reshape(sample.logs.shape)

    def _statistic(self) -> Statistic:
        """Tell from the references how repeats are best summed up."""
        return replace(self.calibration, skew=jitter.skewness(self._steady())).statistic

    def _steady(self) -> Floats:
        """Return the log-times of the references, free of the drift that they show."""
        positions, logs = np.asarray(self._references).T
        window = jitter.best_window(logs, positions)
        return np.asarray(logs - jitter.drift_at(positions, logs, positions, window=window))

    def holds_up(self, sample: Sample, reading: Reading) -> bool:
        """Tell whether an exit that was read may be answers that something held up by chance.

        It is if the reference, which leaves at one exit, shows it about as often as images do, or
        if repeats of its images disagree. A rough clock knows its noise.
        """
        if self.rough or self.calibration.fresh_exits or reading.exits.exits == 1:
            return False
        if sample.repeats > 1:
            return held_up(sample.logs, reading.exits.assign(reading.times)[0], reading.exits)
        return bool(self._references) and strays_like(self._steady(), reading.exits)

    def _time_once(self, images: Tensor, *, new: bool = False) -> Sample:
        """Ask each image once; returns those before the first request that is refused."""
        order = self._order(len(images))
        pictures = torch.cat([images, self._reference.to(images)])
        first = self._asked
        posteriors, logs = [], []
        for index in torch.split(order, self._request):
            try:
                answers, times = self._ask(pictures[index.to(images.device)])
            except BudgetExhausted:
                self.refused = True
                break
            if new:
                mine = index < len(images)
                rows = mine.nonzero().squeeze(1).to(answers.device)
                self._keep(images[index[mine].to(images.device)], answers[rows])
            posteriors.append(answers)
            logs.append(times)
        if not logs:
            none = images.new_empty((0, self._oracle.threat.num_classes))
            return Sample(images[:0], none, np.empty((0, 1)), np.empty((0, 1)))
        order = order[: self._asked - first]
        times, positions = np.concatenate(logs), np.arange(first, self._asked, dtype=np.float64)
        references = (order == len(images)).numpy()
        self._references += zip(
            positions[references].tolist(), times[references].tolist(), strict=True
        )
        place = order.argsort(stable=True)[: len(order) - int(references.sum())]
        answers = torch.cat(posteriors)
        return Sample(
            images[order[place].to(images.device)],
            answers[place.to(answers.device)].to(images.device),
            times[place.numpy(), None],
            positions[place.numpy(), None],
        )

    def _order(self, count: int) -> Tensor:
        """Return indices 0 .. count - 1, and `count`, the reference, every so often.

        On a rough clock their order is a new one each time: what an image finds in the processor's
        caches depends on the one before, a deep exit's weights or a shallow one's.
        """
        order = torch.arange(count)
        if self.rough:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(self._asked))
        every = self.probes_per_reference
        if not every:
            return order
        whole = count - count % every
        rows = order[:whole].view(-1, every)
        rows = torch.cat([rows, torch.full((len(rows), 1), count)], 1)
        return torch.cat([rows.flatten(), order[whole:]])

    def _keep(self, images: Tensor, posteriors: Tensor) -> None:
        """Keep answers to images that were not asked before."""
        self.pixels.append(to_pixels(images))
        self.posteriors.append(posteriors.to(images.device))

    def _ask(self, images: Tensor) -> tuple[Tensor, Floats]:
        """Ask once; return the posteriors and the (n,) log-times."""
        response = self._oracle.query(images)
        self._asked += len(images)
        return response.posteriors, jitter.log_times(response.latency)


def _read(logs: Floats, share: float) -> Reading:
    times, noise = jitter.mean_of_fastest(logs, share), jitter.repeat_noise(logs, share)
    return Reading(times, count_exits(times, noise=noise), float(np.median(noise)))


def _same(posteriors: Tensor) -> bool:
    """Tell whether (n, K) answers are all the same."""
    return bool((posteriors - posteriors[:1]).abs().amax() < _SAME)
