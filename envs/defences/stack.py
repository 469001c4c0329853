"""Several defences at once, in a stated order."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from envs.defences.base import Defence, Serving
from envs.defences.harden_kit import HardenKit
from envs.defences.hardening import hardened_by
from envs.defences.needs import Need, require_needs
from envs.defences.timing import Timing
from envs.victim.victim import Victim


class Stack(Defence):
    """Apply several defences, one after the other.

    The first layer hardens the victim first, sees images first, and perturbs the victim's own
    posteriors; every later layer works on what the one before returned, and takes that for the
    clean answer. Layers of `Timing` learn the times of exits when all others have hardened the
    victim. The knob turns all of them. A stack inside a stack is its layers.

    Hard labels: those of the last layer. A layer with `preserve_top1` keeps the label it was
    handed, so that all layers together keep the victim's only if each does.

    Args:
        layers: the defences, in order; in a scenario a list of names or tables {use, params}.

    Raises:
        ValueError: no layer, or several that put exit heads on the victim.
    """

    def __init__(self, *, layers: Sequence[Defence] = ()) -> None:
        if not layers:
            raise ValueError("expected at least one layer to stack")
        self.layers = tuple(_flattened(layers))
        heads = [type(layer).__name__ for layer in self.layers if "exit heads" in layer.needs]
        if len(heads) > 1:
            raise ValueError(
                "expected one layer at most that puts exit heads on the victim, got "
                f"{' and '.join(heads)}; leave out all but one"
            )
        self._add_up()

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Sources of images that any layer trains on, each once."""
        return tuple(dict.fromkeys(name for layer in self.layers for name in layer.trained_on))

    @property
    def needs(self) -> frozenset[Need]:
        """What any layer needs."""
        return frozenset[Need]().union(*(layer.needs for layer in self.layers))

    def check_images(self, image_shape: tuple[int, int, int]) -> None:
        """Refuse images that a layer cannot be built for. Raises ScenarioError."""
        for layer in self.layers:
            layer.check_images(image_shape)

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Harden by each layer in turn; each has random streams of its own."""
        # padding needs the exits that serve, and changes no victim
        order = sorted(enumerate(self.layers), key=lambda one: isinstance(one[1], Timing))
        for number, layer in order:
            own = replace(kit, streams=kit.streams.child(f"layer{number}"))
            name = type(layer).__name__
            # a layer before may have put another network in the victim's place
            require_needs(layer.needs, name, victim.network.backbone)
            victim = hardened_by(layer, victim, own, name=name)
        self._add_up()
        return victim

    def perturb_images(
        self, images: Tensor, *, strength: float, generator: torch.Generator
    ) -> Tensor:
        """Return the images after every layer."""
        for layer in self.layers:
            images = layer.perturb_images(images, strength=strength, generator=generator)
        return images

    def perturb_posteriors(self, posteriors: Tensor, serving: Serving) -> Tensor:
        """Return the posteriors after every layer."""
        for layer in self.layers:
            posteriors = layer.perturb_posteriors(posteriors, serving)
        return posteriors

    def perturb_latency(self, latency: Tensor, serving: Serving) -> Tensor:
        """Return the seconds after every layer."""
        for layer in self.layers:
            latency = layer.perturb_latency(latency, serving)
        return latency

    def _add_up(self) -> None:
        """Promise the sum of what the layers promise: distances obey the triangle inequality."""
        self.epsilon = min(2.0, sum(layer.epsilon for layer in self.layers))
        self.overhead_macs = sum(layer.overhead_macs for layer in self.layers)
        self.interpolates = all(layer.interpolates for layer in self.layers)


def _flattened(layers: Sequence[Defence]) -> Iterator[Defence]:
    for layer in layers:
        yield from layer.layers if isinstance(layer, Stack) else (layer,)
