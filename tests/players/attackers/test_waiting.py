"""No attacker waits for its device in the query loop without need.

On a CPU a wait costs nothing and nobody notices it; on an accelerator each one drains the queue.
Here everything that would wait there is counted: reading a number, and operations whose result
has a size that only the data tell.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from agents.attackers.argmax import Argmax
from agents.attackers.confidence_filter import ConfidenceFilter
from agents.attackers.dfme import DFME
from agents.attackers.dfms_hl import DFMSHL
from agents.attackers.disguide import DisGUIDE
from agents.attackers.dual_students import DualStudents
from agents.attackers.noise import Noise
from agents.attackers.random_generator import RandomGenerator
from agents.attackers.wrapped import Averaging, Recovery
from envs.types import Response, ThreatModel

SHAPE, CLASSES = (1, 8, 8), 4
READS = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "bincount", "masked_select",
         "equal", "is_nonzero"}  # fmt: skip
CALLS = {torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy}


class Waits:
    """Counts what would wait for an accelerator, but for what happens while it is paused."""

    def __init__(self):
        self.count, self.paused = 0, False

    def see(self, waits: bool) -> None:
        self.count += waits and not self.paused


class Operations(TorchDispatchMode):
    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").split(".")[0]
        masked = name in ("index", "index_put_", "index_put") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.waits.see(name in READS or masked)
        return func(*args, **(kwargs or {}))


class Calls(TorchFunctionMode):
    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.waits.see(func in CALLS)
        return func(*args, **(kwargs or {}))


class Oracle:
    """Answers at once; what happens inside is the server's and not counted."""

    def __init__(self, budget, waits, *, labels="soft"):
        self.threat = ThreatModel(CLASSES, SHAPE, budget, labels)
        self.remaining, self.requests = budget, 0
        self._waits = waits
        self._weights = torch.randn(64, CLASSES, generator=torch.Generator().manual_seed(0))

    def query(self, images):
        self._waits.paused = True
        self.remaining -= len(images)
        self.requests += 1
        answer = (images.flatten(1) @ self._weights).softmax(1)
        self._waits.paused = False
        return Response(answer)


def played(make, kit, budget):
    """Play; returns waits and requests."""
    waits = Waits()
    oracle, attacker, lent = Oracle(budget, waits), make(), kit(clone="conv-small")
    with Operations(waits), Calls(waits):
        attacker.attack(oracle, lent)
    return waits.count, oracle.requests


def per_request(make, kit, *, few=700, many=2800):
    """Return the waits that each further request costs, within one epoch of the attack."""
    first, second = played(make, kit, few), played(make, kit, many)
    return (second[0] - first[0]) / (second[1] - first[1])


def test_what_would_wait_is_counted():
    waits = Waits()
    values = torch.arange(4.0)
    with Operations(waits), Calls(waits):
        float(values.sum())
        values[values > 1]
        values.nonzero()
        values.tolist()
        values * 2
    assert waits.count == 4


@pytest.mark.parametrize("make", [Noise, RandomGenerator, DFME, Argmax,
                                  pytest.param(DualStudents, marks=pytest.mark.slow),
                                  pytest.param(DisGUIDE, marks=pytest.mark.slow)])  # fmt: skip
def test_a_request_more_is_no_wait_more(kit, make):
    assert per_request(make, kit) == 0


def test_repeated_and_recovered_answers_wait_for_nothing_either(kit):
    repeated = per_request(lambda: Averaging(repeats=2), kit, few=1400, many=4200)
    looked_up = per_request(lambda: Recovery(method="look-up"), kit)
    assert (repeated, looked_up) == (0, 0)


@pytest.mark.slow
def test_the_alternating_phase_waits_once_an_epoch_for_its_report(kit):
    """A pool of one batch makes every request an epoch; the other phases do not grow.

    Augmentation is left out: torchvision's functions wait.
    """
    phases = {"pool": 64, "gan_epochs": 1, "initial": 32, "clone_epochs": 1, "diversity_epochs": 1}
    assert per_request(lambda: DFMSHL(validation=32, augment=False, **phases), kit) <= 1


def test_a_filter_waits_for_the_number_of_answers_it_keeps_and_no_more(kit):
    """Images and answers are picked by one mask each; a generator's step picks none."""
    assert per_request(lambda: ConfidenceFilter(threshold=0.9), kit) <= 2
