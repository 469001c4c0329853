"""Measures of a final clone beyond accuracy and fidelity, ours and those of others."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envs.data.images import ImageSet
from envs.errors import ArenaError
from envs.training.evaluation import flags_restored, state_restored


@dataclass(frozen=True, slots=True)
class Handed:
    """What a metric of a clone gets.

    Attributes:
        clone: the final clone in evaluation mode, on the device: (n, c, h, w) float32 images in
            [0, 1] to (n, K) logits.
        victim: gives the undefended victim's (n, K) float32 posteriors for such images; they are
            not charged. None where the victim runs elsewhere.
        test: the held-out images and labels that clones are scored on; a copy.
        generator: chance of the metric's own, on the CPU, from the episode's seed.
        device: where the clone runs.
    """

    clone: nn.Module
    victim: Callable[[Tensor], Tensor] | None
    test: ImageSet
    generator: torch.Generator
    device: torch.device


class CloneMetric(ABC):
    """A number that tells what a clone is worth.

    Subclasses take their parameters by name, with annotations and defaults, as players do. A
    scenario names them under `[[metrics]]`; an installed distribution offers its own by the entry
    point `arena.metrics`.
    """

    @abstractmethod
    def measure(self, handed: Handed) -> float | None:
        """Return a finite number; None where it cannot be known of this clone or victim."""


def measured(metric: CloneMetric, handed: Handed) -> float | None:
    """Take a metric; the clone and every random stream stay as they were.

    Raises:
        ArenaError: its value is no finite number. What its own code raises is passed on.
    """
    devices = [handed.device] if handed.device.type == "cuda" else []
    clone = handed.clone
    with flags_restored(clone), state_restored(clone), torch.random.fork_rng(devices):
        torch.manual_seed(int(torch.randint(2**62, (), generator=handed.generator)))
        clone.eval()
        value: object = metric.measure(handed)  # of others, and so of any type
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ArenaError(f"expected a finite number or None, got {value!r}")
    return float(value)
