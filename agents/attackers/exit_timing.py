"""The architecture probe: count the exits by the clock, and name the network behind them."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from agents.base import ArchitectureGuess, Attacker, Kit
from agents.learning.transfer_set import TransferSet, branch, recipe_for
from agents.timing_probe import architecture_match as exit_times
from agents.timing_probe import timing_noise as jitter
from agents.timing_probe.architecture_guess import (
    LEAST_PROBES,
    Evidence,
    exit_times_of,
    guess,
    idle_exit_times,
    read_answers,
)
from agents.timing_probe.candidates import candidates
from agents.timing_probe.log_record import LATENCIES, findings, histogram, in_words
from agents.timing_probe.own_profile import own_profile
from agents.timing_probe.probes import ProbeImages
from agents.timing_probe.sample import Sample
from agents.timing_probe.stopwatch import Reading, Stopwatch
from envs.data.images import bytes_to_unit, to_pixels
from envs.errors import ScenarioError, UnknownName
from envs.latency.model import COSTS, DeviceCost
from envs.oracle import Oracle
from envs.ranges import Count, Share

OWN = "own"
"""Hardware of which the attacker has a like."""

_CALIBRATION = 30  # repeats of the reference
_LEAST_BUDGET = 60  # a tenth of it is the least calibration
_FEW = 60  # images of a rough clock, which repeats have to smooth
_LEAST_REPEATS = 8  # on it: a quiet moment proves nothing of the next
_ENOUGH = 32  # on it: more tell nothing new of times that differ by more than their noise
_PADDED = 16  # on it: where those show one exit that may be padded, more would too
_QUIET = 0.02  # on it: deviation of a log-time that hides no exit
_CERTAIN = 0.9  # on it: belief in the number of exits that ends the repeats
_FIRST = 120  # images that are looked at repeatedly; a dozen per exit suffice


class ExitTiming(Attacker):
    """Finds exits, depth and family of the victim from how long its answers take.

    One image repeated tells the noise of the clock; distinct images, with that one between them
    to divide slow drift out, tell the exits. Repeats are doubled until neighbouring exits stand
    five standard deviations apart or half of the budget is gone; the rest asks new images as
    often. On the clock of a machine that works for others few images are repeated until two halves
    of their repeats agree, with the whole budget. The times are counted by a mixture model,
    compared with every network that can be built, and what is not certain stays unknown. The clone
    learns from the same answers. Where one is refused, those before it are judged and learned from.

    Exits that differ by less than half a percent of time, such as the head after the last stage
    and the classifier behind it, count as one: no clock tells them apart. The number of exits
    that exist is an inference from the network's published form, apart from the number seen.

    For later phases of a campaign `kit.shared_findings` gets "transfer" (images, posteriors),
    "exit_of" (the exit of each, -1 unknown), "latency_cuts" (seconds between exits),
    "deepest_latency" (seconds from which an answer comes from the deepest exit seen),
    "exit_seconds", "architectures"
    (probabilities by name), "thresholds", "widths" and "calibration".

    Args:
        least_confidence: belief from which an attribute is stated; below, it is unknown.
        most_probes: distinct images that are timed; of a larger budget the rest is unspent.
        hardware: "cpu" or "gpu" where the attacker knows the server's constants, which makes
            absolute times, and so widths, readable. "own" where it has a machine like the server's,
            a CPU with the same software: it times the networks it knows there, and counts on a
            server that is at work for others, too.
        deepest_only: train the clone on answers of the deepest exit alone.

    Source:
        Exits from run time: Li et al. 2022, arXiv:2208.11180; Pan et al. 2023, arXiv:2305.13584.
        Architecture from time: Duddu et al. 2018, arXiv:1812.11720. Width from rank: Carlini et
        al. 2024, arXiv:2403.06634.

    Notes:
        Batch amplification and a second batch size are left out: this game's server handles the
        images of a request one by one, so that both would say what repeats say.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"latency"})

    def __init__(
        self,
        *,
        least_confidence: Share = 0.6,
        most_probes: Count = 20_000,
        hardware: str | None = None,
        deepest_only: bool = False,
    ) -> None:
        if not 0 <= least_confidence <= 1:
            raise ScenarioError(
                f"expected least_confidence as a probability, 0 to 1, got {least_confidence}"
            )
        if most_probes < 1:
            raise ScenarioError(f"expected most_probes of at least 1, got {most_probes}")
        self._least, self._most = least_confidence, most_probes
        self._own = hardware == OWN
        self._hardware = None if self._own else _device(hardware)
        self._deepest_only = deepest_only

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Time the budget's answers, judge them, and train the clone on them."""
        self.clone = kit.new_clone().to(kit.device)
        self.inferred = ArchitectureGuess()
        probes = ProbeImages(oracle.threat.image_shape, kit)
        if oracle.remaining < _LEAST_BUDGET:
            images = probes.draw(oracle.remaining)
            targets = oracle.query(images).posteriors.to(kit.device)
            self._train(kit, images, targets)
            return
        watch = Stopwatch(oracle, probes.reference(), rough=self._own)
        samples = [sample for sample in self._probe(watch, probes) if len(sample)]
        if not samples:  # refused before any image but the reference was timed
            images = bytes_to_unit(torch.cat(watch.pixels))
            self._train(kit, images, torch.cat(watch.posteriors))
            return
        reading = watch.read(samples[0])
        evidence = self._judge(watch, samples[0], reading)
        kit.report(exits=evidence.count.exits, repeats=samples[0].repeats)
        seen = histogram(reading.times, evidence, repeats=samples[0].repeats)
        kit.note(LATENCIES, in_words(evidence, repeats=samples[0].repeats), **seen)
        self.inferred = guess(evidence, least=self._least, absolute=self._hardware is not None)
        exits = _exits(watch, samples, reading).to(kit.device)
        images = torch.cat([sample.images for sample in samples])
        targets = torch.cat([sample.posteriors for sample in samples])
        kit.shared_findings.update(findings(evidence, watch.calibration))
        kit.shared_findings.update(transfer=(images, targets), exit_of=exits)
        kept = exits == evidence.count.exits - 1
        if not self._deepest_only or not bool(kept.any()):
            kept = torch.ones_like(kept)
        self._train(kit, images[kept], targets[kept])

    def _probe(self, watch: Stopwatch, probes: ProbeImages) -> list[Sample]:
        """Spend the budget.

        Half of it, at most, goes to a first look at few images, in repeats, and half of the rest
        to new images; on a rough clock, whose noise repeats alone smooth, all of it to the few, and
        what is left to repeats of all.
        If so many show what the few did not, two exits close together or peaks that are skewed, a
        few of each exit are repeated more. What is left buys new images, which tell the clone
        something and no more of the exits.

        Returns:
            Samples of different images, the first of them the one to judge by; fewer and smaller
            ones where a request is refused, none where that is before the first image.
        """
        watch.calibrate(min(_CALIBRATION, watch.remaining // 10))
        share = 1 if watch.rough else 2
        first = min(
            _FEW if watch.rough else _FIRST, self._most, watch.affordable(watch.remaining // share)
        )
        if first < 1:
            return []
        look = watch.time(probes.draw(first))
        look = _repeat(watch, look, budget=watch.remaining // share)
        self._say_so_far(watch, look)
        many, *apart = self._extend(watch, look, probes, budget=watch.remaining // 2)
        if watch.refused:
            return [many, *apart]
        self._say_so_far(watch, many)
        if watch.rough:
            samples = [_repeat(watch, many, budget=watch.remaining)]
        else:
            samples = _looked_closer(watch, many)
        more = min(watch.affordable(watch.remaining), self._most - len(many))
        return samples if more < 1 else [*samples, watch.time(probes.draw(more))]

    def _extend(
        self, watch: Stopwatch, sample: Sample, probes: ProbeImages, *, budget: int
    ) -> list[Sample]:
        """Ask new images as often as the others; those asked less often, by a refusal, apart."""
        more = min(watch.affordable(budget // sample.repeats), self._most - len(sample))
        if more < 1:
            return [sample]
        new = watch.time(probes.draw(more), sample.repeats)
        return [sample.and_images(new)] if new.repeats == sample.repeats else [sample, new]

    def _say_so_far(self, watch: Stopwatch, sample: Sample) -> None:
        """State what is believed by now, which is all there is if the time of the attack is up."""
        if not self._own and len(sample) >= LEAST_PROBES:
            evidence = self._judge(watch, sample, watch.read(sample))
            self.inferred = guess(evidence, least=self._least, absolute=self._hardware is not None)

    def _judge(self, watch: Stopwatch, sample: Sample, reading: Reading) -> Evidence:
        times, count, _ = reading
        threat = watch.threat
        soft = threat.labels == "soft"
        thresholds, widths = read_answers(count, times, sample.posteriors) if soft else (None, ())
        hypotheses, form = [], (threat.image_shape, threat.num_classes)
        seconds = (
            idle_exit_times(sample.logs, count.assign(times)[0])
            if self._own
            else exit_times_of(count, len(sample))
        )
        coarse = jitter.step_of_clock(sample.logs) > 0
        # two times, an offset and a rate: everything fits; steps of a clock are no exits'
        if len(seconds.seconds) > 2 and not coarse:
            hypotheses = exit_times.match(
                seconds,
                candidates(*form),
                hardware=own_profile(*form) if self._own else self._hardware,
            )
        held = count.exits == 1 and jitter.has_floor(sample.logs, rough=self._own)
        return Evidence(
            count,
            seconds,
            hypotheses,
            thresholds,
            widths,
            len(sample),
            held=held,
            coarse=coarse,
            unsettled=_is_unsettled(watch, sample),
            delayed=watch.holds_up(sample, reading),
        )

    def _train(self, kit: Kit, images: Tensor, targets: Tensor) -> None:
        """Fit the clone to the answers, soft or hard."""
        assert self.clone is not None
        bought = TransferSet(to_pixels(images), targets)
        shape = (images.shape[1], images.shape[2], images.shape[3])
        bought.train(self.clone, recipe_for(None, shape), branch(kit.generator))
        self.clone.eval()


def _exits(watch: Stopwatch, samples: Sequence[Sample], reading: Reading) -> Tensor:
    """Assign every image to an exit.

    Only the first sample's times are those that were counted; the others, with fewer repeats and
    so more jitter, fall between boundaries instead of onto peaks.
    """
    first, _ = reading.exits.assign(reading.times)
    cuts = reading.exits.boundaries()
    others = [np.searchsorted(cuts, watch.times(rest)) for rest in samples[1:]]
    return torch.from_numpy(np.concatenate([first, *others]))


def _repeat(watch: Stopwatch, sample: Sample, *, budget: int, finest: float = math.inf) -> Sample:
    """Double the repeats until the exits stand apart or the budget is spent.

    A rough clock takes what is left for fewer: there repeats tell more than new images.
    """
    while not watch.refused and not _settled(watch, sample, finest=finest):
        more, once = sample.repeats, watch.cost(len(sample))
        if watch.rough:
            more = min(more, budget // once)
        if not 0 < more * once <= budget:
            break
        sample = watch.repeat(sample, more)
        budget -= more * once
    return sample


def _settled(watch: Stopwatch, sample: Sample, *, finest: float = math.inf) -> bool:
    """Tell whether repeats would bring nothing, or would mix up exits drawn afresh."""
    if watch.calibration.fresh_exits:
        return True
    if watch.rough:
        return sample.repeats >= _LEAST_REPEATS and _agreed(watch, sample)
    count = watch.read(sample).exits
    return count.identified and count.resolved(finest)


def _is_unsettled(watch: Stopwatch, sample: Sample) -> bool:
    """Tell whether a refusal came before repeats on a rough clock agreed."""
    return watch.refused and watch.rough and not _settled(watch, sample)


def _agreed(watch: Stopwatch, sample: Sample) -> bool:
    """Tell whether repeats on a rough clock agree, or will never agree better."""
    reading, repeats = watch.read(sample), sample.repeats
    count = reading.exits
    if count.exits == 1 and repeats >= _PADDED and jitter.has_floor(sample.logs):
        return True
    if repeats >= _ENOUGH and reading.noise < _QUIET:
        return True
    same = watch.read(sample.first(repeats // 2)).exits.exits == count.exits
    return same and count.confidence >= _CERTAIN


def _looked_closer(watch: Stopwatch, many: Sample) -> list[Sample]:
    """Repeat a few images of each exit where the two criteria disagree about many.

    Returns:
        The few and the rest if that settled the matter, else all in one.
    """
    times, count, _ = watch.read(many)
    if count.identified or watch.calibration.fresh_exits:
        return [many]
    labels, _ = count.assign(times)
    each = -(-_FIRST // len(set(labels.tolist())))
    few = np.concatenate([np.flatnonzero(labels == e)[:each] for e in set(labels.tolist())])
    closer = _repeat(watch, many.pick(few), budget=watch.remaining, finest=count.finest)
    if not _settled(watch, closer, finest=count.finest):
        return [many]
    return [closer, many.pick(np.setdiff1d(np.arange(len(many)), few))]


def _device(name: str | None) -> DeviceCost | None:
    if name is None:
        return None
    known = {key: cost for key, cost in COSTS.items() if isinstance(cost, DeviceCost)}
    if name not in known:
        raise UnknownName("known hardware", name, [*known, OWN])
    return known[name]
