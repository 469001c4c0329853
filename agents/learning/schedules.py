"""The settings of data-free attacks and the arithmetic of their epochs.

A data-free attacker has no data set to run through, so that an "epoch" is a fixed number of
iterations; learning rates fall at fractions of the epochs that the budget pays for.

Source:
    Truong et al. 2021 (DFME), arXiv:2011.14779, and its released code, which fixes the order:
    rates change before an epoch, and the last epoch may be cut short.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch.optim import Optimizer

from envs.errors import ScenarioError

MILESTONES = (0.1, 0.3, 0.5)
"""Fractions of the epochs at which rates fall, as published."""

LONG = 20
"""Whole epochs from which a budget is long enough for rates to fall."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a data-free attack is run; the defaults are the published ones for CIFAR-10.

    Attributes:
        batch: images per request of a clone step, N.
        generator_steps, clone_steps: of an iteration, n_G and n_S.
        directions: finite differences per generated image, m.
        epsilon: length of a finite difference, on the images before tanh.
        generator_rate: Adam's learning rate for the generator.
        clone_rate, momentum, weight_decay: SGD's for the clone.
        milestones: fractions of the epochs at which both rates are multiplied by `decay`; None
            takes `MILESTONES` for budgets of `LONG` epochs and more, and none below.
        epoch_length: iterations per epoch.
        generator_width: factor on the generator's channels.
    """

    batch: int = 256
    generator_steps: int = 1
    clone_steps: int = 5
    directions: int = 1
    epsilon: float = 1e-3
    generator_rate: float = 1e-4
    clone_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[float, ...] | None = None
    decay: float = 0.3
    epoch_length: int = 50
    generator_width: float = 1.0

    def __post_init__(self) -> None:
        counts = ("batch", "clone_steps", "directions", "epoch_length")
        rates = ("epsilon", "generator_rate", "clone_rate", "decay", "generator_width")
        for name in counts:
            if getattr(self, name) < 1:
                raise ScenarioError(f"expected {name} of at least 1, got {getattr(self, name)}")
        for name in rates:
            if not getattr(self, name) > 0:
                raise ScenarioError(f"expected {name} above 0, got {getattr(self, name)}")
        if self.generator_steps < 0:
            raise ScenarioError(
                f"expected generator_steps of at least 0, got {self.generator_steps}"
            )
        if not 0 <= self.momentum < 1 or not self.weight_decay >= 0:
            raise ScenarioError(
                f"expected momentum in [0, 1) and weight_decay of at least 0, "
                f"got {self.momentum} and {self.weight_decay}"
            )
        if not all(0 <= fraction <= 1 for fraction in self.milestones or ()):
            raise ScenarioError(f"expected milestones as fractions, 0 to 1, got {self.milestones}")

    @property
    def cost(self) -> int:
        """Images asked in one iteration: N (n_G (m + 1) + n_S)."""
        per_image = self.generator_steps * (self.directions + 1) + self.clone_steps
        return self.batch * per_image


def settings_for(
    image_shape: tuple[int, int, int], overrides: Mapping[str, object] | None = None
) -> Settings:
    """Return the settings for images of a size, some of them overridden.

    Args:
        image_shape: (channels, height, width); from 30 pixels the published settings hold, from
            15 those for 28x28, below those for 8x8.
        overrides: fields of `Settings` by name; None leaves a field alone.

    Raises:
        ScenarioError: a value out of its range.
    """
    side = min(image_shape[1:])
    if side >= 30:
        base = Settings()
    elif side >= 15:
        base = Settings(batch=128)
    else:
        base = Settings(batch=64, generator_rate=1e-3, clone_rate=0.05)
    given: dict[str, Any] = {}  # Any: values of a scenario file, checked by `Settings`
    for name, value in (overrides or {}).items():
        if value is not None:
            given[name] = tuple(value) if isinstance(value, list) else value
    return replace(base, **given)


@dataclass(frozen=True, slots=True)
class Epochs:
    """The epochs that a budget pays for.

    Args:
        budget: images that may be asked.
        cost: images asked in one iteration.
        length: iterations per epoch.

    Example:
        >>> epochs = Epochs(20_000_000, cost=1792, length=50)
        >>> epochs.iterations, epochs.count, epochs.milestones()
        (11160, 224, (22, 67, 112))
    """

    budget: int
    cost: int
    length: int

    @property
    def iterations(self) -> int:
        """Whole iterations that the budget pays for."""
        return self.budget // self.cost

    @property
    def count(self) -> int:
        """Epochs, the last of which is cut short."""
        return self.budget // (self.cost * self.length) + 1

    def milestones(self, fractions: tuple[float, ...] | None = None) -> tuple[int, ...]:
        """Return the epochs, counted from 1, before which rates fall.

        Args:
            fractions: of the epochs. Without them the published ones hold for long budgets,
                and rates stay for short ones, which the published fractions would starve: at
                50,000 queries on 8x8 digits an untrained generator's clone reached 89 % at a
                steady rate and 52 % with it falling early (one seed).
        """
        if fractions is None:
            fractions = MILESTONES if self.iterations >= LONG * self.length else ()
        return tuple(int(fraction * self.count) for fraction in fractions)


class StepDecay:
    """Multiplies the rates of some optimisers at milestones.

    Args:
        optimizers: their rates at this moment are the starting ones.
        milestones: epochs, counted from 1, before which rates fall; none fall before the first.
        factor: what a rate is multiplied by at each milestone.
    """

    def __init__(
        self, optimizers: list[Optimizer], milestones: tuple[int, ...], *, factor: float
    ) -> None:
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self._rates = [float(group["lr"]) for group in self._groups]
        self._milestones, self._factor = milestones, factor

    def begin(self, epoch: int) -> None:
        """Set the rates of an epoch, counted from 1."""
        passed = sum(1 < milestone <= epoch for milestone in self._milestones)
        for group, rate in zip(self._groups, self._rates, strict=True):
            group["lr"] = rate * self._factor**passed
