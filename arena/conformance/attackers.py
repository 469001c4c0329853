"""What is asked of every attacker."""

from collections.abc import Callable, Iterable

import torch

from agents.base import Attacker, granted
from arena.conformance.findings import Claim, attempt, claim
from arena.conformance.plays import Play, Terms, play, warm_up
from arena.conformance.resuming import check_resuming
from arena.conformance.tiny_world import TinyWorld
from arena.evaluation.architecture import check_guess
from arena.runner.stopping import STOP
from envs.errors import PlayerError, one_line

BUDGET = 600
"""Enough for a whole iteration of the attackers of data-free extraction at 8x8."""
ODD_BUDGETS = (1, 7, 100, 333)
REFUSED_FROM = 300
"""More than a request of attackers that ask 256 images at once."""

_OF_TORCH = {"random stream of torch", "random stream of CUDA"}
_ON_DROPOUT = (
    "; a clone's dropout draws there unless it is trained by TransferSet, by CloneTrainer with "
    "kit.generator, or within own_chance(kit.generator)"
)


def check_attacker(
    make: Callable[[], Attacker],
    *,
    image_shape: tuple[int, int, int] = (3, 8, 8),
    num_classes: int = 5,
) -> list[Claim]:
    """Check an attacker in a tiny world.

    The claims: `requires`, `ends`, `odd-budgets`, `ledger`, `legal-queries`, `clone`, `repeats`,
    `seeded`, `global-state`, `labels`, `changing-exits`, `refused`, `resumes` and, where there is
    one, `cuda`.

    Args:
        make: gives a fresh attacker; a class will do, or a `partial` with its parameters.
        image_shape: (channels, height, width), for attackers that need other images.
        num_classes: K.
    """
    try:
        requires = make().requires
        granted(make(), labels="soft", latency_visible=True, pool=True)
    except BaseException as error:
        if STOP.caused(error):
            raise
        return [Claim("requires", False, f"cannot be set up: {one_line(error)}")]
    world = TinyWorld(image_shape, num_classes, device=torch.device("cpu"))
    main, again = (play(make, world, Terms(BUDGET)) for _ in range(2))
    other = play(make, world, Terms(BUDGET, seed=1))
    odd = [play(make, world, Terms(budget)) for budget in ODD_BUDGETS]
    exits = play(make, world, Terms(BUDGET, changing_exits=True))
    closed = play(make, world, Terms(BUDGET, refused_from=REFUSED_FROM))
    plays = [main, again, other, *odd, exits, closed]
    needs = ", ".join(sorted(requires)) or "nothing"
    labels, hard = _attempt_labels(make, world)
    plays += hard
    return [
        Claim("requires", True, f"needs {needs} of the threat model"),
        claim("ends", _endings([main]), f"ended after {main.charged} of {BUDGET} images"),
        claim("odd-budgets", _endings(odd), _spent(odd)),
        claim("ledger", _ledger(plays), "every image the victim saw was charged"),
        claim("legal-queries", _refusals(plays), "no query was refused"),
        attempt("clone", lambda: _check_clone(main, world)),
        attempt("inferred", lambda: _check_inferred(main)),
        claim("repeats", _repeats(main, again), "the same seed gives the same game and clone"),
        claim("seeded", _seeded(main, other), "another seed gives another game"),
        claim("global-state", _moved(plays), "random streams and settings are as they were"),
        labels,
        claim("changing-exits", _endings([exits]), "plays on where exits change"),
        claim("refused", _endings([closed]), "a request refused before its time ends the attack"),
        check_resuming(make, world, [main, closed]),
        *_check_cuda(make, image_shape, num_classes),
    ]


def _endings(plays: Iterable[Play]) -> Iterable[str]:
    return (f"{record.terms}: {record.fault}" for record in plays if record.fault)


def _spent(plays: Iterable[Play]) -> str:
    spent = ", ".join(f"{record.charged} of {record.terms.budget}" for record in plays)
    return f"spent {spent}"


def _ledger(plays: Iterable[Play]) -> Iterable[str]:
    for record in plays:
        if record.seen != record.charged:
            yield f"{record.terms}: {record.charged} images charged, the victim saw {record.seen}"
        if record.charged > record.terms.budget:
            yield f"{record.terms}: {record.charged} images charged"


def _refusals(plays: Iterable[Play]) -> Iterable[str]:
    return (f"{record.terms}: {text}" for record in plays for text in record.refusals)


def _repeats(main: Play, again: Play) -> Iterable[str]:
    if main.digest != again.digest:
        yield (
            "two games of one seed differ; draw all chance from kit.generator and keep no state "
            "outside the instance"
        )


def _seeded(main: Play, other: Play) -> Iterable[str]:
    if main.digest == other.digest:
        yield (
            "two games of different seeds are equal; draw chance from kit.generator "
            "(an attacker without chance may leave this claim out)"
        )


def _moved(plays: Iterable[Play]) -> Iterable[str]:
    for record in plays:
        if record.changed:
            dropout = _ON_DROPOUT if _OF_TORCH & set(record.changed) else ""
            yield f"moved: {', '.join(record.changed)}{dropout}"


def _attempt_labels(make: Callable[[], Attacker], world: TinyWorld) -> tuple[Claim, list[Play]]:
    """Check the claim of labels; whatever a player raises on the way speaks against it."""
    plays: list[Play] = []

    def check_labels() -> Claim:
        found, played = _check_labels(make, world)
        plays.extend(played)
        return found

    return attempt("labels", check_labels), plays


def _check_labels(make: Callable[[], Attacker], world: TinyWorld) -> tuple[Claim, list[Play]]:
    """Hard labels are played, or refused before the first query."""
    attacker = make()
    try:
        granted(attacker, labels="hard", latency_visible=True, pool=True)
    except PlayerError:
        return Claim("labels", True, "asks for soft labels and is not played without"), []
    record = play(make, world, Terms(BUDGET, labels="hard"))
    faults = [*_endings([record]), *_clone_faults(record, world)]
    return claim("labels", faults, "plays with soft and with hard labels"), [record]


def _check_clone(record: Play, world: TinyWorld) -> Claim:
    attacker = record.attacker
    if attacker.clone is None and attacker.inferred is not None:
        return Claim("clone", True, "sets no clone; it infers an architecture")
    shape = f"(n, {world.num_classes})"
    return claim("clone", _clone_faults(record, world), f"answers {shape} finite logits")


def _check_inferred(record: Play) -> Claim:
    guess: object = record.attacker.inferred  # a player may set anything
    if guess is None:
        return Claim("inferred", True, "infers no architecture")
    check_guess(guess)
    return Claim("inferred", True, "infers an architecture in values that a log can hold")


def _clone_faults(record: Play, world: TinyWorld) -> Iterable[str]:
    clone: object = record.attacker.clone  # a player may set anything
    if clone is None:
        if record.attacker.inferred is None:
            yield f"{record.terms}: neither a clone nor an inference was set"
        return
    if not isinstance(clone, torch.nn.Module):
        yield f"{record.terms}: expected a torch module as clone, got {type(clone).__name__}"
        return
    images = world.splits().test.images(slice(0, 16))
    clone.eval()
    for count in (1, len(images)):
        with torch.no_grad():
            logits = clone(images[:count])
        if not isinstance(logits, torch.Tensor):
            yield f"{record.terms}: expected a tensor of logits, got {type(logits).__name__}"
        elif tuple(logits.shape) != (count, world.num_classes):
            yield (
                f"{record.terms}: expected logits ({count}, {world.num_classes}), "
                f"got {tuple(logits.shape)}"
            )
        elif not bool(torch.isfinite(logits).all()):
            yield f"{record.terms}: the clone answers NaN or infinity"


def _check_cuda(
    make: Callable[[], Attacker], image_shape: tuple[int, int, int], num_classes: int
) -> list[Claim]:
    """Play on an accelerator; without one there is no finding."""
    if not torch.cuda.is_available():
        return []
    world = TinyWorld(image_shape, num_classes, device=torch.device("cuda"))
    warm_up(world)

    def check_cuda() -> Claim:
        record = play(make, world, Terms(BUDGET))
        faults = [
            *_endings([record]),
            *_ledger([record]),
            *_refusals([record]),
            *_moved([record]),
            *_clone_faults(record, world),
        ]
        return claim("cuda", faults, "plays on CUDA too")

    return [attempt("cuda", check_cuda)]
