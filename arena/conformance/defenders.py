"""What is asked of every defender."""

import copy
from collections.abc import Callable, Iterable, Iterator

import torch

from agents.base import Defender
from arena.conformance.findings import Claim, attempt, claim
from arena.system.process_state import ProcessState
from envs.errors import one_line
from envs.game.clients import ClientNumbers
from envs.game.rounds import Countermeasure, Served, View
from envs.seeding import Streams

COUNTS = (1, 3)
"""Numbers of deployed defences that a defender is checked with."""
_CLASSES = 5
_EXITS = 4


def check_defender(
    make: Callable[[], Defender], *, image_shape: tuple[int, int, int] = (3, 8, 8)
) -> list[Claim]:
    """Check a defender on made-up requests.

    The claims: `begins`, `decides`, `repeats`, `copies`, `global-state`.

    Args:
        make: gives a fresh defender; a class will do, or a `partial` with its parameters.
        image_shape: (channels, height, width) of the requests.
    """
    views, before = _views(image_shape), ProcessState.capture()
    try:
        for count in COUNTS:
            _begun(make, count)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        before.restore()
        return [Claim("begins", False, f"{count} deployed defences: {one_line(error)}")]
    findings = [
        Claim("begins", True, f"begins with {' and '.join(map(str, COUNTS))} deployed defences"),
        attempt("decides", lambda: _check_decisions(make, views)),
        attempt("repeats", lambda: _check_repeats(make, views)),
        attempt("copies", lambda: _check_copies(make, views)),
    ]
    changed = ProcessState.capture().changes_since(before)
    before.restore()
    moved = [f"moved: {', '.join(changed)}"] if changed else []
    return [
        *findings,
        claim("global-state", moved, "random streams and settings are as they were"),
    ]


def _views(image_shape: tuple[int, int, int]) -> list[View]:
    """Make requests of one image and of many, from several clients, ordinary and extreme."""
    generator = Streams(0).torch("views")
    sizes = (1, 7, 64, 64, 3, 256, 1, 32)
    batches = [torch.rand((n, *image_shape), generator=generator) for n in sizes]
    batches += [torch.zeros((5, *image_shape)), torch.ones((5, *image_shape))]
    views, answered, clients = [], 0, ClientNumbers(Streams(0))
    for number, images in enumerate(batches):
        views.append(View(images, clients.benign(1 + number % 4), answered, round=number))
        answered += len(images)
    return views


def _begun(make: Callable[[], Defender], count: int) -> Defender:
    defender = make()
    defender.begin(count, Streams(0).torch("defender"))
    return defender


def _played(defender: Defender, views: Iterable[View]) -> list[Countermeasure]:
    """Let a defender decide on every request, and show it what was answered."""
    return list(_decisions(defender, views))


def _decisions(defender: Defender, views: Iterable[View]) -> Iterator[Countermeasure]:
    """Yield each decision; the defender then sees an answer by chance."""
    generator = Streams(0).torch("answers")
    for view in views:
        decision = defender.act(view)
        logits = torch.randn((len(view.images), _CLASSES), generator=generator)
        exits = torch.randint(_EXITS, (len(view.images),), generator=generator)
        defender.learn(Served(view, decision, logits.softmax(1), exits))
        yield decision


def _check_decisions(make: Callable[[], Defender], views: list[View]) -> Claim:
    faults: list[str] = []
    for count in COUNTS:
        for number, decision in enumerate(_decisions(_begun(make, count), views)):
            fault = _decision_fault(decision, count)
            if fault:
                faults.append(f"request {number} of {count} deployed defences: {fault}")
    return claim("decides", faults, f"a legal countermeasure for each of {len(views)} requests")


def _decision_fault(decision: object, count: int) -> str | None:
    if not isinstance(decision, Countermeasure):
        return f"expected a Countermeasure, got {type(decision).__name__}"
    if decision.defence >= count:
        return f"there is no defence {decision.defence}"
    return None


def _check_repeats(make: Callable[[], Defender], views: list[View]) -> Claim:
    first, second = (_played(_begun(make, COUNTS[-1]), views) for _ in range(2))
    faults = [] if first == second else ["one stream, two series of decisions"]
    return claim("repeats", faults, "the same stream gives the same decisions")


def _check_copies(make: Callable[[], Defender], views: list[View]) -> Claim:
    """The referee asks a copy, so that measuring changes nothing."""
    defender = _begun(make, COUNTS[-1])
    _played(defender, views[:4])
    untouched = copy.deepcopy(defender)
    _played(copy.deepcopy(defender), views)
    equal = _played(defender, views[4:]) == _played(untouched, views[4:])
    faults = [] if equal else ["what a copy of the defender sees changes the defender"]
    return claim("copies", faults, "a copy leaves the defender alone")
