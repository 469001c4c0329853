"""The fortress that keeps its promise when the attacker knows how a fortress works."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from envs.data.images import ImageSet
from envs.defences.base import Defence, Serving
from envs.defences.decoy import AnswerBank, Decoy
from envs.defences.harden_kit import HardenKit
from envs.defences.needs import Need
from envs.defences.timing import Timing
from envs.errors import ScenarioError
from envs.exits.calibration import require_held_out
from envs.exits.rules import Thresholds, log_odds
from envs.nets.guarded import Guarded
from envs.ranges import Count, Share
from envs.training.guards import NEAR, GuardRecipe, train_guards
from envs.training.ood import source_weights
from envs.victim.victim import Victim

Confidence = Literal["matched", "own"]
"""Every answer dressed alike; or the decoys alone, and the others with their own posteriors."""

_CHUNK = 256
_TAIL = 0.2  # share of the scores that a threshold is extrapolated from


class Scores(NamedTuple):
    """What the exits say to own images.

    Attributes:
        log_odds: (N-1, n) float64, of every exit but the last.
        harmed: (n,) bool, whether the lane's class differs from the last exit's.
    """

    log_odds: Tensor
    harmed: Tensor


class DNFPlus(Defence):
    """Guards that see images near to its own, decoys as early answers, and one face for all.

    Guards after every stage let OOD images leave. The early answer is a decoy: a smooth keyed
    function of the image that says next to nothing of its class, with another key at every exit.
    Every answer has the confidence of a random image of the victim's own, so that confidence tells
    neither early from late nor sure from unsure; and every answer is sent when the whole network
    would have finished. The surest own images take a lane of their own past the last stage and get
    their true answer there: what the guards cost benign traffic, the lane saves.

    Args:
        suspected: share of own images that the guards together may suspect, and answer with a
            decoy, as estimated on held-out ones.
        lane: share of own images that may take the lane, 0 to 1; fewer do where one would be
            answered otherwise than by the last exit.
        confidence: "matched" serves a class and a confidence that tells nothing. "own" serves
            the posterior of benign answers: better for users who read it, and for attackers.
        constant_time: send every answer when the whole network would have finished.
        ood: a source of OOD images, a list of them, or weights by name.
        steps: of the guards' training.
        hidden: units of a guard.

    Attributes:
        thresholds: log-odds of every exit but the last, once hardened.

    Notes:
        An early answer owes nothing to the network's own, so the promised L1 distance is 2.
        What is answered honestly can be learnt: images that no guard tells from the victim's own
        copy it as they copy any other. It is on or off.

    Source:
        The project's own, on the idea of Luan et al., Dynamic Neural Fortresses, ICLR 2025.
    """

    epsilon = 2.0
    interpolates = False

    def __init__(
        self,
        *,
        suspected: Share = 0.005,
        lane: Share = 0.25,
        confidence: Confidence = "matched",
        constant_time: bool = True,
        ood: str | list[str] | dict[str, float] | None = None,
        steps: Count = 600,
        hidden: Count = 32,
    ) -> None:
        for name, share in (("suspected", suspected), ("lane", lane)):
            if not 0 <= share <= 1:
                raise ScenarioError(f"expected '{name}' in [0, 1], got {share}")
        if confidence not in get_args(Confidence):
            raise ScenarioError(f"expected confidence 'matched' or 'own', got '{confidence}'")
        source = NEAR if ood is None else tuple(ood) if isinstance(ood, list) else ood
        self.recipe = GuardRecipe(ood=source, steps=steps, hidden=hidden)
        self._suspected, self._lane, self._confidence = suspected, lane, confidence
        self._timing = Timing(policy="constant") if constant_time else None
        self.thresholds: tuple[float, ...] = ()
        self._decoys: dict[int, Decoy] = {}

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Sources of the guards' OOD images."""
        return tuple(source_weights(self.recipe.ood))

    @property
    def needs(self) -> frozenset[Need]:
        """Places for its guards, in a network that runs in stages."""
        return frozenset({"exit heads", "stages"})

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Train guards and lane, or recall them, and set thresholds, decoys and confidences.

        Raises:
            ScenarioError: fewer than 2 validation images.
            ScenarioError, UnknownName: a source of OOD images that does not exist or fit.
        """
        require_held_out(kit.data.validation)
        network = train_guards(
            victim.network.backbone,
            self.recipe,
            data=kit.data,
            streams=kit.streams,
            victim_key=kit.cache_key,
            load_pool=kit.load_pool,
            report=kit.report,
        )
        self.thresholds = self._calibrate(network, kit)
        rule = Thresholds.from_log_odds(self.thresholds)
        fortress = Victim(network, rule=rule, execution=victim.execution, chunk=victim.chunk)
        self._decoys = {
            e: Decoy(kit.data.train, kit.streams, name=f"exit {e}") for e in network.guards
        }
        # only who leaves at a guard needs one; counted for all, as costs of a defence are
        self.overhead_macs = max(decoy.macs for decoy in self._decoys.values())
        held_out = kit.data.validation
        rows = [fortress.posteriors(images) for images, _ in held_out.batches(_CHUNK)]
        self._bank = AnswerBank(torch.cat(rows), key=kit.streams.integer("bank/key"))
        if self._timing is not None:
            self._timing.harden(fortress, kit)
        return fortress

    def perturb_posteriors(self, posteriors: Tensor, serving: Serving) -> Tensor:
        """Return decoys for who left at a guard, and one kind of confidence for all."""
        classes, images = posteriors.argmax(1), serving.images
        early = torch.zeros_like(classes, dtype=torch.bool)
        for e, decoy in self._decoys.items():
            here = serving.exits == e
            classes = torch.where(here, decoy.classes(images), classes)
            early |= here
        served = self._bank.dress(images, classes)
        if self._confidence == "own":
            served = torch.where(early[:, None], served, posteriors)
        # at strength 1 to the bit: a sum would round by the posterior that it is there to hide
        return torch.lerp(posteriors, served, serving.strength)

    def perturb_latency(self, latency: Tensor, serving: Serving) -> Tensor:
        """Return when the whole network would have finished."""
        if self._timing is None:
            return latency
        return self._timing.perturb_latency(latency, serving)

    def _calibrate(self, network: Guarded, kit: HardenKit) -> tuple[float, ...]:
        """Return the log-odds above which an image leaves, one per exit but the last."""
        held_out = measure(network, kit.data.validation)
        known = measure(network, kit.data.train)
        values = together(held_out.log_odds, network.guards, self._suspected)
        if network.lane is not None:
            scores = held_out.log_odds[network.lane], known.log_odds[network.lane]
            # whoever the lane answers otherwise must be below the threshold
            wrong = torch.cat(scores)[torch.cat([held_out.harmed, known.harmed])]
            least = float(wrong.max()) if len(wrong) else -math.inf
            values[network.lane] = max(upper(scores[0], self._lane), least)
        return tuple(values)


@torch.no_grad()
def measure(network: Guarded, own: ImageSet) -> Scores:
    """Run all exits on own images."""
    scores, harmed = [], []
    for images, _ in own.batches(_CHUNK):
        logits = network.forward_all(images)  # (N, m, K)
        scores.append(torch.stack([log_odds(each) for each in logits[:-1]]))
        lane = logits[-1] if network.lane is None else logits[network.lane]
        harmed.append(lane.argmax(1) != logits[-1].argmax(1))
    return Scores(torch.cat(scores, 1), torch.cat(harmed))


def together(scores: Tensor, guards: Sequence[int], share: float) -> list[float]:
    """Return thresholds of the guards above which they let `share` of own images go.

    Every guard's scores are standardised, and one threshold holds for the most suspicious of
    them, so that the share is that of all guards together, however many there are.

    Args:
        scores: (N-1, n) log-odds on held-out own images.
        guards: which exits are guards.
        share: of the images.

    Returns:
        N-1 log-odds; infinite at exits that are no guards.
    """
    chosen = scores[list(guards)]
    mean, spread = chosen.mean(1, keepdim=True), chosen.std(1, keepdim=True).clamp_min(1e-6)
    limit = tail(((chosen - mean) / spread).amax(0), share)
    values = [math.inf] * len(scores)
    for e, value in zip(guards, (mean + limit * spread).squeeze(1).tolist(), strict=True):
        values[e] = float(value)
    return values


def tail(scores: Tensor, share: float) -> float:
    """Return a number that a new score exceeds with probability `share`.

    Above the fifth that is highest, scores are taken to be exponential, with the mean excess of
    that fifth. Of a few hundred scores the highest one or two alone say little about a share of
    half a percent, and a single odd image would open the gate.

    Args:
        scores: (n,).
        share: 0 gives infinity.
    """
    ordered = scores.sort(descending=True).values
    count = int(_TAIL * len(ordered))
    if share <= 0:
        return math.inf
    if share >= _TAIL or count < 1:
        return upper(scores, share)
    start = ordered[count]
    excess = (ordered[:count] - start).mean()
    return float(start + excess * math.log(_TAIL / share))


def upper(scores: Tensor, share: float) -> float:
    """Return a number above which lie at most `share` of the (n,) scores, between two of them."""
    ordered = scores.sort(descending=True).values
    count = int(share * len(ordered) + 1e-9)
    if count >= len(ordered):
        return -math.inf
    if count == 0:
        return float(ordered[0])
    return float((ordered[count - 1] + ordered[count]) / 2)
