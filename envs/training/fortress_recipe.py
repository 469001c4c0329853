"""How the exits of a Dynamic Neural Fortress are trained, by variant.

The variants are the rows a table about the fortress needs: what the paper states, what its
released code does, and the controls that tell which part of it works.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from envs.errors import ScenarioError
from envs.training.checkpoint_file import JSON
from envs.training.exit_training import Backbone, OODLabel, OODSchedule
from envs.training.objective import Detail, Estimator
from envs.training.ood import SourceSpec, source_weights

Variant = Literal[
    "intended", "released", "released-fixed", "plain", "id-only", "random-exit", "oracle-ood"
]

NO_SOURCE = "none"
"""Name of the source "train without OOD images"."""

_LEAST_EPOCHS, _LEAST_STEPS = 20, 160


@dataclass(frozen=True, slots=True)
class FortressRecipe:
    """All that bears on the trained exits.

    The defaults are the variant "intended". They were chosen on digits (resnet10, thresholds for
    5 % of own images) by what happens to images of sources that no training saw, never by an
    attack; alpha and the estimator by sources that no attacker uses (turned digits and shuffled
    patches of digits, three victims: `benchmarks/entropy_weight.py`, docs/dnf.md). Weights `w_s`
    of 0.3 and more spread the early answers over classes but keep a quarter to all of untrained
    generators' images inside.

    Args:
        objective: "bound" for equations 2 and 3 with bounds, "released" for the released loss.
        alpha: weight of the entropies; one number, or one per early exit.
        estimator: of the label information of OOD codes.
        x_info: of their image information.
        w_c: weight of the rate of in-distribution codes.
        w_y: weight of the label information.
        w_x: weight of the image information.
        w_s: weight against one-class answers.
        ood: where OOD images come from; "none" trains without.
        ood_schedule: in which epochs.
        ood_label: who labels them.
        ood_batch: OOD images per step.
        fixed_ood: use one and the same batch throughout.
        backbone: what of the backbone learns.
        exits: stages with a head, rising from 0; all where none are given.
        epochs: passes over the data; if not given 20, and as many as 160 steps take.
        batch: in-distribution images per step.
        learning_rate: of the heads.
        augment: name of an augmentation.
        cosine: let the rate fall along a cosine.
        clip: largest norm of a gradient; 0 for none.
        standardise: train heads on standardised features.
        weight_decay: L2 penalty on the heads.
    """

    objective: Literal["bound", "released"] = "bound"
    alpha: float | tuple[float, ...] = 0.5
    estimator: Estimator = "M"
    x_info: Detail = "R"
    w_c: float = 1e-3
    w_y: float = 1.0
    w_x: float = 0.1
    w_s: float = 0.0
    ood: SourceSpec = ("uniform", "smooth", "pixel-shuffle")
    ood_schedule: OODSchedule = "every"
    ood_label: OODLabel = "victim"
    ood_batch: int = 128
    fixed_ood: bool = False
    backbone: Backbone = "frozen"
    exits: tuple[int, ...] | None = None
    epochs: int | None = None
    batch: int = 256
    learning_rate: float = 0.1
    augment: str = "none"
    cosine: bool = True
    clip: float = 5.0
    standardise: bool = True
    weight_decay: float = 0.0

    @property
    def uses_ood(self) -> bool:
        """Whether OOD images are trained on at all."""
        return self.ood != NO_SOURCE

    def alphas(self, num_exits: int) -> tuple[float, ...]:
        """Return the weight of the entropy at each exit; the last repeats the one before it.

        Raises:
            ScenarioError: another number of alphas than of early exits, or of exits.
        """
        if isinstance(self.alpha, int | float):
            return (float(self.alpha),) * num_exits
        given = tuple(self.alpha)
        if len(given) == num_exits - 1:
            return (*given, given[-1])
        if len(given) != num_exits:
            raise ScenarioError(
                f"expected 'alpha' to be one number or one for each of {num_exits - 1} early "
                f"exits, got {len(given)}"
            )
        return given

    def epochs_for(self, images: int) -> int:
        """Return the passes over so many images; small sets need more of them."""
        if self.epochs is not None:
            return self.epochs
        return max(_LEAST_EPOCHS, math.ceil(_LEAST_STEPS / math.ceil(images / self.batch)))

    def key(self) -> dict[str, JSON]:
        """Return everything here as JSON."""
        values = asdict(self)
        values["ood"] = source_weights(self.ood) if self.uses_ood else NO_SOURCE
        return values


_RELEASED: dict[str, object] = {
    "objective": "released", "alpha": 0.1, "ood": "generator", "ood_label": "exit1",
    "w_c": 0.0, "epochs": 20, "cosine": False, "clip": 0.0, "standardise": False,
}  # fmt: skip
_CIFAR, _PHOTOGRAPHS = 30, 64  # pixels from which its recipes for these hold
_RELEASED_CIFAR: dict[str, object] = {"augment": "crop-flip"}
_RELEASED_PHOTOGRAPHS: dict[str, object] = {
    "alpha": 0.2, "ood": "normal-generator", "ood_batch": 32, "epochs": 10, "batch": 32,
    "learning_rate": 0.01, "weight_decay": 5e-4, "augment": "crop-flip",
}  # fmt: skip
_NO_OOD: dict[str, object] = {"ood": NO_SOURCE, "estimator": "none", "x_info": "none", "w_s": 0.0}
_PLAIN: dict[str, object] = {**_NO_OOD, "alpha": 0.0, "w_c": 0.0}

VARIANTS: dict[str, Mapping[str, object]] = {
    "intended": {},
    "released": {
        **_RELEASED, "backbone": "drift", "ood_schedule": "epoch-0", "fixed_ood": True,
    },
    "released-fixed": _RELEASED,
    "plain": _PLAIN,
    "id-only": _NO_OOD,
    "random-exit": _PLAIN,
    "oracle-ood": {},
}  # fmt: skip
"""What each variant changes of the defaults; the released ones also by the size of images."""

_CHOICES = {
    "estimator": Estimator, "x_info": Detail, "ood_schedule": OODSchedule,
    "ood_label": OODLabel, "backbone": Backbone,
}  # fmt: skip
_AT_LEAST = {
    "epochs": 1, "batch": 2, "ood_batch": 2, "w_c": 0, "w_y": 0, "w_x": 0, "w_s": 0,
    "weight_decay": 0,
}  # fmt: skip


def fortress_recipe(
    variant: str,
    switches: Mapping[str, object],
    image_shape: tuple[int, int, int] | None = None,
) -> FortressRecipe:
    """Return a variant's recipe with some switches set by hand.

    Args:
        variant: one of `VARIANTS`.
        switches: by name; None stands for the variant's own value.
        image_shape: (channels, height, width). The released variants have one recipe for
            CIFAR's 32 pixels and another one for photographs, from 64 pixels; smaller images,
            and those of no known shape, take that of CIFAR without its augmentation.

    Raises:
        ScenarioError: a value outside its range.
    """
    given = {name: value for name, value in switches.items() if value is not None}
    for name, choices in _CHOICES.items():
        if name in given and given[name] not in get_args(choices):
            raise ScenarioError(
                f"expected '{name}' to be one of {', '.join(get_args(choices))}, "
                f"got {given[name]!r}"
            )
    for name, least in _AT_LEAST.items():
        value = given.get(name, least)
        assert isinstance(value, int | float)
        if not value >= least:
            raise ScenarioError(f"expected '{name}' of at least {least}, got {value}")
    rate = given.get("learning_rate", 1.0)
    assert isinstance(rate, int | float)
    if not rate > 0:
        raise ScenarioError(f"expected a 'learning_rate' above 0, got {rate}")
    changes = {**VARIANTS[variant], **_by_size(variant, image_shape), **given}
    # names are those of the dataclass's fields: the caller's keywords are declared one by one
    return replace(FortressRecipe(), **changes)  # type: ignore[arg-type]


def _by_size(variant: str, image_shape: tuple[int, int, int] | None) -> Mapping[str, object]:
    """Return what the released code does otherwise for images of a size."""
    side = 0 if image_shape is None else min(image_shape[1:])
    if not variant.startswith("released") or side < _CIFAR:
        return {}
    return _RELEASED_CIFAR if side < _PHOTOGRAPHS else _RELEASED_PHOTOGRAPHS
