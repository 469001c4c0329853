"""What is asked of every defender."""

from collections.abc import Callable, Iterable, Iterator

import torch

from agents.base import Defender, DefenderKit
from arena.conformance.findings import Claim, attempt, claim
from arena.conformance.tiny_world import TinyWorld
from arena.runner.defender_words import checked_carried_state, checked_notes
from arena.runner.stopping import STOP
from arena.system.process_state import ProcessState
from envs.errors import one_line
from envs.game.clients import ClientNumbers
from envs.game.rounds import Countermeasure, Served, View
from envs.game.standings import NOMINAL
from envs.seeding import Streams
from envs.victim.owned import Owned

COUNTS = (1, 3)
"""Numbers of deployed defences that a defender is checked with."""
_CLASSES = 5
_EXITS = 4


def check_defender(
    make: Callable[[], Defender], *, image_shape: tuple[int, int, int] = (3, 8, 8)
) -> list[Claim]:
    """Check a defender on made-up requests.

    The claims: `begins`, `decides`, `repeats`, `copies`, `says`, `global-state`.

    Args:
        make: gives a fresh defender; a class will do, or a `partial` with its parameters.
        image_shape: (channels, height, width) of the requests.
    """
    bench = _Bench(make, image_shape)
    before = ProcessState.capture()
    try:
        for count in COUNTS:
            bench.begun(count)
    except BaseException as error:
        if STOP.caused(error):
            raise
        before.restore()
        return [Claim("begins", False, f"{count} deployed defences: {one_line(error)}")]
    findings = [
        Claim("begins", True, f"begins with {' and '.join(map(str, COUNTS))} deployed defences"),
        attempt("decides", lambda: _check_decisions(bench)),
        attempt("repeats", lambda: _check_repeats(bench)),
        attempt("copies", lambda: _check_copies(bench)),
        attempt("says", lambda: _check_words(bench)),
    ]
    changed = ProcessState.capture().changes_since(before)
    before.restore()
    moved = [f"moved: {', '.join(changed)}"] if changed else []
    return [
        *findings,
        claim("global-state", moved, "random streams and settings are as they were"),
    ]


def defender_kit(
    deployed_defences: int = 2, *, image_shape: tuple[int, int, int] = (3, 8, 8)
) -> DefenderKit:
    """Lend a defender what an owner has, of a small victim of 5 classes; for tests.

    Args:
        deployed_defences: how many there are.
        image_shape: (channels, height, width) of the owner's images.
    """
    world = TinyWorld(image_shape, _CLASSES, device=torch.device("cpu"))
    splits = world.splits()
    return DefenderKit(
        deployed_defences=("undefended",) * deployed_defences,
        generator=Streams(0).torch("defender"),
        victim=Owned(world.victim()),
        train=splits.train,
        validation=splits.validation,
    )


class _Bench:
    """Requests, and defenders that have begun.

    Args:
        make: gives a fresh defender.
        image_shape: of the requests.
    """

    def __init__(self, make: Callable[[], Defender], image_shape: tuple[int, int, int]) -> None:
        self._make, self._shape = make, image_shape
        self.kit = defender_kit(image_shape=image_shape)
        self.views = self._requests(image_shape)

    def begun(self, count: int) -> Defender:
        """Make a defender and let it begin."""
        defender = self._make()
        defender.begin(defender_kit(count, image_shape=self._shape))
        return defender

    def _requests(self, image_shape: tuple[int, int, int]) -> list[View]:
        """Make requests of one image and of many, from several clients, ordinary and extreme."""
        generator = Streams(0).torch("views")
        sizes = (1, 7, 64, 64, 3, 256, 1, 32)
        batches = [torch.rand((n, *image_shape), generator=generator) for n in sizes]
        batches += [torch.zeros((5, *image_shape)), torch.ones((5, *image_shape))]
        views, answered, clients = [], 0, ClientNumbers(Streams(0))
        for number, images in enumerate(batches):
            client, time = clients.benign(1 + number % 4), answered * NOMINAL
            views.append(View(images, client, answered, time=time, victim=self.kit.victim))
            answered += len(images)
        return views


def _played(defender: Defender, views: Iterable[View]) -> list[Countermeasure]:
    """Let a defender decide on every request, and show it what was answered."""
    return list(_decisions(defender, views))


def _decisions(defender: Defender, views: Iterable[View]) -> Iterator[Countermeasure]:
    """Yield each decision; the defender then sees an answer by chance, where it gives one."""
    generator = Streams(0).torch("answers")
    closed: set[int] = set()
    for view in views:
        if view.client in closed:
            continue
        decision = defender.act(view)
        if isinstance(decision, Countermeasure) and not decision.answers:
            closed |= {view.client} if decision.cut_off else set()
            yield decision
            continue
        logits = torch.randn((len(view.images), _CLASSES), generator=generator)
        exits = torch.randint(_EXITS, (len(view.images),), generator=generator)
        defender.learn(Served(view, decision, logits.softmax(1), exits))
        yield decision


def _check_decisions(bench: _Bench) -> Claim:
    faults: list[str] = []
    for count in COUNTS:
        for number, decision in enumerate(_decisions(bench.begun(count), bench.views)):
            fault = _decision_fault(decision, count)
            if fault:
                faults.append(f"request {number} of {count} deployed defences: {fault}")
    return claim(
        "decides", faults, f"a legal countermeasure for each of {len(bench.views)} requests"
    )


def _decision_fault(decision: object, count: int) -> str | None:
    if not isinstance(decision, Countermeasure):
        return f"expected a Countermeasure, got {type(decision).__name__}"
    if decision.defence >= count:
        return f"there is no defence {decision.defence}"
    return None


def _check_repeats(bench: _Bench) -> Claim:
    first, second = (_played(bench.begun(COUNTS[-1]), bench.views) for _ in range(2))
    faults = [] if first == second else ["one stream, two series of decisions"]
    return claim("repeats", faults, "the same stream gives the same decisions")


def _check_copies(bench: _Bench) -> Claim:
    """The referee asks a copy, so that measuring changes nothing."""
    defender, views, kit = bench.begun(COUNTS[-1]), bench.views, bench.kit
    _played(defender, views[:4])
    untouched = kit.copy_of(defender)
    _played(kit.copy_of(defender), views)
    equal = _played(defender, views[4:]) == _played(untouched, views[4:])
    faults = [] if equal else ["what a copy of the defender sees changes the defender"]
    return claim("copies", faults, "a copy leaves the defender alone")


def _check_words(bench: _Bench) -> Claim:
    """What it notices and carries on can be written down, and read in its next episode."""
    defender = bench.begun(COUNTS[-1])
    _played(defender, bench.views)
    notes, carried = checked_notes(defender), checked_carried_state(defender)
    bench.begun(COUNTS[-1]).load_carried_state(carried)
    return Claim("says", True, f"{len(notes)} notes and {len(carried)} carried values are readable")
