"""An image generator in an attacker's hands: it draws queries, and may be trained."""

import torch
from torch import Tensor

from agents.learning.clone import can_fuse
from envs.nets.generators import DfmeGenerator, ImageGenerator


class Synthesiser:
    """Draws images from a generator network and trains it.

    The network stays in train mode but for images that are asked for `settled`: that images
    depend on their batch is part of how DFME behaves.

    Args:
        network: makes the images.
        rate: Adam's learning rate.
        generator: draws the latents, on the network's device.
    """

    def __init__(self, network: ImageGenerator, *, rate: float, generator: torch.Generator) -> None:
        self.network = network.train()
        self._generator = generator
        parameters = list(network.parameters())
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
            parameters, lr=rate, fused=can_fuse(parameters)
        )

    @classmethod
    def fresh(
        cls,
        image_shape: tuple[int, int, int],
        *,
        rate: float,
        generator: torch.Generator,
        width: float = 1.0,
    ) -> "Synthesiser":
        """Build the DFME generator for an image shape, with weights from `generator`."""
        network = DfmeGenerator(image_shape, generator=generator, width=width)
        return cls(network, rate=rate, generator=generator)

    @torch.no_grad()
    def images(self, count: int, *, settled: bool = False) -> Tensor:
        """Draw (count, c, h, w) images in [0, 1], without a path for gradients.

        Args:
            count: how many.
            settled: normalise by the running statistics (evaluation mode), not by the batch's.
        """
        if settled:
            self.network.eval()
        images: Tensor = self.network(self.network.draw(count, self._generator))
        if settled:
            self.network.train()
        return images

    def pre_activations(self, count: int) -> Tensor:
        """Draw (count, c, h, w) images before tanh, with a path for gradients."""
        return self.network.pre_activation(self.network.draw(count, self._generator))

    def descend(self, outputs: Tensor, gradient: Tensor | None = None) -> None:
        """Take one step down.

        Args:
            outputs: a 0-d loss, or anything drawn from the network with its gradient.
            gradient: of the loss, by `outputs`; None where `outputs` is the loss itself.
        """
        self.optimizer.zero_grad()
        outputs.backward(gradient)
        self.optimizer.step()
