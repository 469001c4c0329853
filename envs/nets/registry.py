"""Networks by name.

Names resolve lazily from strings, so that listing them loads neither torch nor a library that a
single network needs. Parameters are checked against the signature of the function that lays the
network out.
"""

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envs.errors import ScenarioError, UnknownName
from envs.nets import user_networks

if TYPE_CHECKING:
    import torch

    from envs.nets.staged import Plan, Staged, Start


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered network.

    Args:
        target: "module:function"; the function takes a `Plan` and keyword parameters.
        summary: one line for users.
        fixed: parameters that the name stands for; they cannot be given again.
    """

    target: str
    summary: str
    fixed: Mapping[str, object] = field(default_factory=dict)

    def load(self) -> "Callable[..., Staged]":
        """Import the function."""
        module, _, function = self.target.partition(":")
        builder: Callable[..., Staged] = getattr(importlib.import_module(module), function)
        return builder


_NETWORKS: dict[str, Entry] = {
    "resnet10": Entry("envs.nets.resnet:resnet10", "ResNet of four blocks for 8 to 64 pixels"),
    "resnet10-half": Entry(
        "envs.nets.resnet:resnet10", "resnet10 at half the channels, a clone", {"width": 0.5}
    ),
    "resnet18-8x": Entry("envs.nets.resnet:resnet18_8x", "ResNet-18 of CIFAR size"),
    "resnet34-8x": Entry("envs.nets.resnet:resnet34_8x", "ResNet-34 of CIFAR size"),
    "mobilenetv2": Entry("envs.nets.mobilenet:mobilenetv2", "MobileNetV2 of CIFAR size"),
    "mobilenetv2-small": Entry(
        "envs.nets.mobilenet:mobilenetv2_small", "a few MobileNetV2 cells for 8 and 28 pixels"
    ),
    "densenet121": Entry("envs.nets.densenet:densenet121", "DenseNet-121 of CIFAR size"),
    "densenet-small": Entry(
        "envs.nets.densenet:densenet_small", "two dense blocks for 8 and 28 pixels"
    ),
    "conv-small": Entry("envs.nets.small:conv_small", "two convolutions, two linear layers"),
    "mlp-small": Entry("envs.nets.small:mlp_small", "perceptron with two hidden layers"),
    "lenet5": Entry("envs.nets.small:lenet5", "LeNet-5 with ReLU and max-pooling"),
    "resnet50": Entry("envs.nets.vision:resnet50", "ResNet-50 of ImageNet size"),
    "resnet34": Entry("envs.nets.vision:resnet34", "ResNet-34 of ImageNet size"),
    "vgg19": Entry("envs.nets.vision:vgg19", "VGG-19 of ImageNet size, batch-normalised or not"),
    "swin-large": Entry(
        "envs.nets.transformers:swin",
        "Swin-L, windows of 12, meant for 384 pixels",
        {"model": "swin_large_patch4_window12_384"},
    ),
    "swin-tiny": Entry(
        "envs.nets.transformers:swin",
        "Swin-T, windows of 7, meant for 224 pixels",
        {"model": "swin_tiny_patch4_window7_224"},
    ),
    "vit-large": Entry(
        "envs.nets.transformers:vit",
        "ViT-L, patches of 16, meant for 384 pixels",
        {"model": "vit_large_patch16_384"},
    ),
    "cait-s36": Entry(
        "envs.nets.transformers:cait",
        "CaiT-S36, meant for 384 pixels",
        {"model": "cait_s36_384", "layer_scale": 1e-06},
    ),
    "cait-xxs24": Entry(
        "envs.nets.transformers:cait",
        "CaiT-XXS24, meant for 224 pixels",
        {"model": "cait_xxs24_224", "layer_scale": 1e-05},
    ),
    "deit-base-distilled": Entry(
        "envs.nets.transformers:vit",
        "DeiT-B with two heads, meant for 384 pixels",
        {"model": "deit_base_distilled_patch16_384"},
    ),
    "deit-small": Entry(
        "envs.nets.transformers:vit",
        "DeiT-S, meant for 224 pixels",
        {"model": "deit_small_patch16_224"},
    ),
    "deit-tiny": Entry(
        "envs.nets.transformers:vit",
        "DeiT-Ti, meant for 224 pixels",
        {"model": "deit_tiny_patch16_224"},
    ),
}

_LIBRARIES = {"envs.nets.vision": "torchvision", "envs.nets.transformers": "timm, extra 'vision'"}


def names() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_NETWORKS))


def describe(name: str) -> str:
    """Return one line about a network.

    Raises:
        UnknownName: nothing is registered under `name`.
    """
    return _entry(name).summary


def origin(name: str) -> str:
    """Return which library lays a network out; "built in" for our own. Raises UnknownName."""
    return _LIBRARIES.get(_entry(name).target.partition(":")[0], "built in")


def parameters(name: str) -> dict[str, object]:
    """Return the parameters a network takes, with their defaults.

    Raises:
        UnknownName: nothing is registered under `name`.
    """
    return {key: parameter.default for key, parameter in _signature(_entry(name)).items()}


def hints(name: str) -> dict[str, object]:
    """Return the annotations of the parameters a network takes.

    Raises:
        UnknownName: nothing is registered under `name`.
    """
    entry = _entry(name)
    found = typing.get_type_hints(entry.load(), include_extras=True)
    return {key: found[key] for key in _signature(entry)}


def build(
    name: str,
    *,
    num_classes: int,
    image_shape: tuple[int, int, int],
    generator: "torch.Generator",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **params: object,
) -> "Staged":
    """Build a network with starting weights.

    Args:
        name: one of `names()`, or that of a network of others, see `envs.nets.user_networks`.
        num_classes: K, at least 2.
        image_shape: (channels, height, width).
        generator: the only source of randomness; the network lands on its device.
        mean: of the data by channel, in [0, 1]; one number serves all channels; 0 if not given.
        std: of the data by channel, above 0; 1 if not given.
        params: the network's own, see `parameters`.

    Raises:
        UnknownName: nothing is registered under `name`.
        ScenarioError: a parameter is unknown or of the wrong type, the images do not fit, or the
            library that knows the network is not installed.
        DataMissing: published weights are asked for and not there.
    """
    if is_own(name):
        from envs.nets.network_adapter import build_own

        plan = _plan(name, num_classes, image_shape, mean=mean, std=std, params=params)
        return build_own(plan, generator=generator)
    from envs.nets.init import materialise

    network = outline(
        name, num_classes=num_classes, image_shape=image_shape, mean=mean, std=std, **params
    )
    materialise(network, generator=generator)
    if network.start is not None:
        network.start.fill(network)
    return network


def outline(
    name: str,
    *,
    num_classes: int,
    image_shape: tuple[int, int, int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **params: object,
) -> "Staged":
    """Lay a network out on the meta device: shapes, counts and costs without any weight.

    Args and Raises as for `build`.
    """
    entry = _entry(name)
    plan = _plan(name, num_classes, image_shape, mean=mean, std=std, params=params)
    return _lay_out(entry, plan, params)


def _lay_out(entry: Entry, plan: "Plan", params: Mapping[str, object]) -> "Staged":
    import torch

    from envs.nets.init import NoInitialValues

    _check_params(plan.architecture, entry, params)
    builder = entry.load()
    with torch.device("meta"), NoInitialValues():
        return builder(plan, **entry.fixed, **params)


def start_of(name: str, params: Mapping[str, object]) -> "Start | None":
    """Return the weights a network would start from instead of drawn ones, or None.

    Raises:
        UnknownName, ScenarioError: as for `build`.
    """
    if not params.get("weights") or is_own(name):
        return None
    # any classes and images do: only the name of the file is asked for
    plan = _plan(name, 2, (3, 384, 384), mean=None, std=None, params=params)
    return _lay_out(_entry(name), plan, params).start


def is_own(name: str) -> bool:
    """Tell whether a name is that of a network of others; see `envs.nets.user_networks`."""
    return name not in _NETWORKS and user_networks.is_own(name)


def code_digest(name: str) -> str:
    """Digest the code of a network of others; "" of ours, and of those that a library names."""
    return user_networks.code_digest(name) if is_own(name) else ""


def _entry(name: str) -> Entry:
    if name not in _NETWORKS:
        raise UnknownName("network", name, [*_NETWORKS, *user_networks.offered()])
    return _NETWORKS[name]


def _plan(
    name: str,
    num_classes: int,
    image_shape: tuple[int, int, int],
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    params: Mapping[str, object],
) -> "Plan":
    from envs.nets.staged import Plan

    if num_classes < 2:
        raise ScenarioError(f"a classifier needs at least 2 classes, got {num_classes}")
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ScenarioError(
            f"expected an image shape (channels, height, width), got {tuple(image_shape)}"
        )
    channels, height, width = image_shape
    spread = _per_channel("std", (1.0,) if std is None else std, channels)
    if min(spread) <= 0:
        raise ScenarioError(f"expected every std above 0, got {spread}")
    centre = _per_channel("mean", (0.0,) if mean is None else mean, channels)
    return Plan(name, num_classes, (channels, height, width), centre, spread, dict(params))


def _per_channel(what: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise ScenarioError(
            f"expected one {what} for each of {channels} channels, got {len(values)}"
        )
    return tuple(float(v) for v in values) * (channels // len(values))


def _signature(entry: Entry) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(entry.load()).parameters
    return {
        key: parameter
        for key, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and key not in entry.fixed
    }


def _check_params(name: str, entry: Entry, params: Mapping[str, object]) -> None:
    known = _signature(entry)
    for key, value in params.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            takes = f"known: {', '.join(sorted(known))}" if known else "it takes none"
            hint = f"did you mean '{close[0]}'?" if close else takes
            raise ScenarioError(f"network '{name}' has no parameter '{key}'; {hint}")
        annotation = known[key].annotation
        if not _fits(value, annotation):
            wanted = getattr(annotation, "__name__", None) or str(annotation)
            raise ScenarioError(
                f"parameter '{key}' of network '{name}' expects {wanted}, got {value!r}"
            )


def _fits(value: object, annotation: object) -> bool:
    """Tell whether a value of a scenario file may stand where the annotation is."""
    if isinstance(annotation, types.UnionType):
        return any(_fits(value, choice) for choice in typing.get_args(annotation))
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, annotation) if isinstance(annotation, type) else False
