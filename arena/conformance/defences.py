"""What is asked of every defence."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from arena.conformance.findings import Claim, attempt, claim
from arena.conformance.tiny_world import TinyWorld
from arena.runner.stopping import STOP
from arena.system.process_state import ProcessState
from envs.data.images import ImageSet
from envs.defences.base import Answer, Defence, DeployedDefence
from envs.defences.harden_kit import HardenKit
from envs.defences.hardening import hardened_by
from envs.errors import one_line
from envs.game.clocks import make_clock
from envs.seeding import Streams
from envs.types import Labels
from envs.victim.victim import Victim

SIZES = (1, 7, 64)
_LABELS: tuple[Labels, ...] = ("soft", "hard")
_CLOSE = 1e-5
"""Answers of a batch and of its parts differ by float32 rounding."""
_LEAST, _NEAR = 1e-6, 0.01
"""A strength close to 0, and how far (mean L1) it may move answers."""


@dataclass(frozen=True, eq=False, slots=True)
class _Bench:
    """A hardened defence and images to ask it; `seed` of an answer is of the defence's stream."""

    deployed: DeployedDefence
    images: Tensor

    @property
    def defence(self) -> Defence:
        return self.deployed.defence

    @property
    def victim(self) -> Victim:
        return self.deployed.victim

    def answer(
        self,
        images: Tensor,
        *,
        seed: int = 0,
        strength: float = 1.0,
        labels: Labels = "soft",
        latency: Literal["none", "virtual"] = "none",
    ) -> Answer:
        streams = Streams(seed)
        with torch.no_grad():
            return self.deployed.answer(
                images,
                clock=make_clock(latency, streams),
                generator=streams.torch("defence", images.device),
                strength=strength,
                labels=labels,
            )


def check_defence(
    make: Callable[[], Defence],
    *,
    image_shape: tuple[int, int, int] = (3, 8, 8),
    num_classes: int = 5,
) -> list[Claim]:
    """Check a defence in a tiny world.

    The claims: `hardens`, `answers`, `off`, `repeats`, `batches`, `still`, `latency`,
    `global-state`.

    Args:
        make: gives a fresh defence; a class will do, or a `partial` with its parameters.
        image_shape: (channels, height, width), for defences that need other images.
        num_classes: K.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    world = TinyWorld(image_shape, num_classes, device=device)
    splits, before = world.splits(), ProcessState.capture()
    noise = torch.rand(
        (32, *image_shape), generator=Streams(0).torch("noise", device), device=device
    )
    images = torch.cat((splits.test.images(slice(0, 32)), noise))
    try:
        defence = make()
        name = type(defence).__name__
        hardened = hardened_by(defence, world.victim(), _kit(world), name=name)
        bench = _Bench(DeployedDefence("defence", defence, hardened, world.victim()), images)
    except BaseException as error:
        if STOP.caused(error):
            raise
        before.restore()
        return [Claim("hardens", False, one_line(error))]
    claims: list[tuple[str, Callable[[_Bench], Claim]]] = [
        ("answers", _check_answers),
        ("off", _check_off),
        ("repeats", _check_repeats),
        ("batches", _check_batches),
        ("still", _check_still),
        ("latency", _check_latency),
    ]
    exits = f"hardened a victim of {bench.victim.num_exits} exits"
    findings = [Claim("hardens", True, exits)]
    findings += [attempt(name, partial(claim, bench)) for name, claim in claims]
    findings += _warn_of_idle_hooks(bench)
    changed = ProcessState.capture().changes_since(before)
    before.restore()
    moved = [f"moved: {', '.join(changed)}"] if changed else []
    return [
        *findings,
        claim("global-state", moved, "random streams and settings are as they were"),
    ]


HOOKS = ("perturb_images", "perturb_posteriors", "perturb_latency")


def _warn_of_idle_hooks(bench: _Bench) -> list[Claim]:
    """Warn of each overridden hook without which every answer is the same."""
    idle = []
    for name in HOOKS:
        if getattr(type(bench.defence), name) is getattr(Defence, name):
            continue
        try:
            without = copy.copy(bench.defence)
            setattr(without, name, partial(getattr(Defence, name), without))
            if _same_answers(bench, without):
                idle.append(name)
        except Exception:  # a fault of the hooks is found by their own claims
            continue
    told = f"{', '.join(idle)}: changed no answer to {len(bench.images)} images at strength 1"
    return [Claim("hooks", True, told, warning=True)] if idle else []


def _same_answers(bench: _Bench, other: Defence) -> bool:
    for labels in _LABELS:
        one, two = (
            _Bench(bench.deployed._replace(defence=defence), bench.images).answer(
                bench.images, labels=labels, latency="virtual"
            )
            for defence in (copy.deepcopy(bench.defence), other)
        )
        pairs = ((one.posteriors, two.posteriors), (one.exits, two.exits))
        if not all(torch.equal(first, second) for first, second in pairs):
            return False
        if one.latency is None or two.latency is None or not torch.equal(one.latency, two.latency):
            return False
    return True


def _kit(world: TinyWorld) -> HardenKit:
    splits = world.splits()

    def load_pool(
        name: str, *, generator: torch.Generator, **options: object
    ) -> ImageSet:  # as a match lends it
        return splits.validation

    return HardenKit(
        data=splits,
        streams=Streams(0).child("harden"),
        device=world.device,
        victim_key={"world": "conformance", "data": splits.fingerprint},
        load_pool=load_pool,
    )


def _check_answers(bench: _Bench) -> Claim:
    """Every answer is a probability vector within the promised distance."""
    faults: list[str] = []
    for labels in _LABELS:
        for count in SIZES:
            answer = bench.answer(bench.images[:count], labels=labels)
            where = f"{count} images, {labels} labels"
            faults += [f"{where}: {fault}" for fault in _answer_faults(bench, answer, count)]
    told = "probability vectors within the promised distance, for one image and for many"
    return claim("answers", faults, told)


def _answer_faults(bench: _Bench, answer: Answer, count: int) -> Iterable[str]:
    posteriors, exits = answer.posteriors, answer.exits
    expected = (count, bench.victim.num_classes)
    if tuple(posteriors.shape) != expected or posteriors.dtype != torch.float32:
        yield (
            f"expected float32 posteriors {expected}, got {posteriors.dtype} "
            f"{tuple(posteriors.shape)}"
        )
        return
    if bool(answer.fault) or not bool(torch.isfinite(posteriors).all()):
        total = posteriors.double().sum(1)
        yield (
            f"off the simplex or beyond epsilon {bench.defence.epsilon}: least value "
            f"{float(posteriors.min()):.3g}, sums {float(total.min()):.4f} to "
            f"{float(total.max()):.4f}"
        )
    if posteriors.requires_grad or posteriors.is_inference():
        yield "answers carry autograd state; detach them"
    if exits.dtype != torch.int64 or not bool(
        ((exits >= 0) & (exits < bench.victim.num_exits)).all()
    ):
        yield f"expected int64 exits below {bench.victim.num_exits}, got {exits.dtype}"


def _check_off(bench: _Bench) -> Claim:
    """Between 0 and 1 the knob leads from the unhardened victim's answers to the defended ones."""
    if not bench.defence.interpolates:
        return Claim("off", True, f"is on or off{_idle(bench)}")
    undefended = _Bench(DeployedDefence("none", Defence(), bench.victim), bench.images)
    clean = undefended.answer(bench.images).posteriors
    least = bench.answer(bench.images, strength=_LEAST).posteriors
    apart = float((least - clean).abs().sum(1).mean())
    advice = "scale what you perturb by the strength, or set interpolates = False"
    faults = [f"at strength {_LEAST} answers are off by {apart:.3g} (L1); {advice}"]
    return claim("off", faults if apart > _NEAR else (), f"strength scales answers{_idle(bench)}")


def _idle(bench: _Bench) -> str:
    """Warn of a knob without effect."""
    off, on = (bench.answer(bench.images, strength=s, latency="virtual") for s in (0.0, 1.0))
    assert off.latency is not None
    assert on.latency is not None
    same = torch.equal(off.posteriors, on.posteriors) and torch.equal(off.latency, on.latency)
    return "; WARNING: the knob changes nothing (strength 1 answers as strength 0)" if same else ""


def _check_repeats(bench: _Bench) -> Claim:
    first, second = (bench.answer(bench.images) for _ in range(2))
    equal = bool((first.posteriors == second.posteriors).all())
    faults = [] if equal else ["one stream, two answers; draw all chance from the generator"]
    return claim("repeats", faults, "the same stream gives the same answers")


def _check_batches(bench: _Bench) -> Claim:
    """How a client splits its images must not matter, unless there is chance in the answers."""
    whole = bench.answer(bench.images).posteriors
    if not torch.allclose(whole, bench.answer(bench.images, seed=1).posteriors, atol=_CLOSE):
        return Claim("batches", True, "answers by chance, so that batches cannot be compared")
    parts = torch.cat([bench.answer(part).posteriors for part in _parts(bench.images, 24)])
    apart = float((whole - parts).abs().max())
    faults = [f"answers change by {apart:.3g} with the batch"] if apart > _CLOSE else []
    return claim("batches", faults, "how images are split into batches does not matter")


def _check_still(bench: _Bench) -> Claim:
    """Serving changes neither the victim nor the images."""
    weights = {k: v.clone() for k, v in bench.victim.network.state_dict().items()}
    images = bench.images.clone()
    bench.answer(images)
    after = bench.victim.network.state_dict()
    faults = [f"serving changed {k}" for k, v in weights.items() if not torch.equal(v, after[k])]
    if not torch.equal(images, bench.images):
        faults.append("serving changed the client's images in place")
    if bench.victim.network.training:
        faults.append("serving left the victim in train mode")
    return claim("still", faults, "serving changes neither victim nor images")


def _check_latency(bench: _Bench) -> Claim:
    """What is served as latency is a time per image."""
    seconds = bench.answer(bench.images, latency="virtual").latency
    faults = []
    if seconds is None:
        faults.append("a timed answer lost its latency")
    elif tuple(seconds.shape) != (len(bench.images),) or seconds.dtype != torch.float64:
        faults.append(
            f"expected ({len(bench.images)},) float64 seconds, got {tuple(seconds.shape)} "
            f"{seconds.dtype}"
        )
    elif not bool((torch.isfinite(seconds) & (seconds >= 0)).all()):
        faults.append("a latency is negative, NaN or infinite")
    return claim("latency", faults, "one finite time per image")


def _parts(images: Tensor, size: int) -> list[Tensor]:
    return [images[start : start + size] for start in range(0, len(images), size)]
