"""What the large networks have in common: published weights, a frozen body, enlarged images."""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from envs.errors import ScenarioError
from envs.nets.staged import Plan, Staged
from envs.nets.weights import PUBLISHED, Convert, FileStart, same_tensors

S = TypeVar("S", bound=Staged)


class Enlarge(nn.Module):
    """Resizes images to the size that the body sees, bilinearly.

    Args:
        size: pixels a side.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c, size, size)."""
        side = (self.size, self.size)
        return F.interpolate(images, size=side, mode="bilinear", antialias=True)

    def extra_repr(self) -> str:
        """Tell the size."""
        return str(self.size)


@dataclass(frozen=True, slots=True)
class Body:
    """Options of a large network.

    Args:
        weights: "imagenet" for the published weights, a file of such weights, or "" to draw all.
            The classifier is drawn unless the file's has as many classes. Published weights bring
            the normalisation they were trained with.
        frozen: let only the classifier learn.
        enlarge: pixels a side that images are resized to inside the network; 0 leaves them.
    """

    weights: str = ""
    frozen: bool = False
    enlarge: int = 0

    def plan(self, plan: Plan, model: str) -> Plan:
        """Return the plan with the normalisation that goes with the weights.

        Raises:
            ScenarioError: the weights are for colour images, or `enlarge` is below 0.
        """
        if self.enlarge < 0:
            raise ScenarioError(f"expected enlarge of 0 or more pixels, got {self.enlarge}")
        if not self.weights:
            return plan
        if plan.channels != 3:
            raise ScenarioError(
                f"the weights of '{plan.architecture}' are for images of 3 channels, "
                f'got {plan.channels}; draw them with weights = ""'
            )
        return replace(plan, mean=PUBLISHED[model].mean, std=PUBLISHED[model].std)

    def seen(self, plan: Plan) -> Plan:
        """Return the plan of the images that the body sees."""
        side = self.enlarge
        return replace(plan, image_shape=(plan.channels, side, side)) if side else plan

    def dress(
        self, network: S, whole: nn.Module, *, model: str, convert: Convert | None = None
    ) -> S:
        """Give a network what the options ask for.

        Args:
            network: made of parts of `whole`.
            whole: as the library lays it out, on the meta device.
            model: the library's name of it.
            convert: from a file's names and shapes to the library's; none where they are alike.
        """
        if self.enlarge:
            first = network.stages[0]
            assert isinstance(first, nn.Sequential)
            first.insert(0, Enlarge(self.enlarge))
        if self.weights:
            start = FileStart(model, self.weights, same_tensors(network, whole))
            network.start = start if convert is None else replace(start, convert=convert)
        if self.frozen:
            network.freeze_body()
        return network
