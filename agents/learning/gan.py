"""A generative adversarial network that learns to draw images like those of a pool."""

import torch
from torch import Tensor
from torch.nn import functional as F

from agents.learning.clone import can_fuse
from agents.learning.generators import Synthesiser
from envs.data.images import ImageSet
from envs.nets.generators import DcganDiscriminator, DcganGenerator

_BETAS = (0.5, 0.999)


class Gan:
    """A DCGAN and its discriminator, with their optimisers.

    Args:
        image_shape: (channels, height, width).
        rate: Adam's learning rate of both.
        generator: weights and latents come from it; the networks land on its device.

    Source:
        Radford et al. 2016 (DCGAN), arXiv:1511.06434; settings as in the released code of
        Sanyal et al. 2022 (DFMS-HL).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        generator: torch.Generator,
        rate: float = 2e-4,
    ) -> None:
        self._chance = generator
        network = DcganGenerator(image_shape, generator=generator)
        self.synthesiser = Synthesiser(network, rate=rate, generator=generator)
        self.synthesiser.optimizer = torch.optim.Adam(
            network.parameters(), lr=rate, betas=_BETAS, fused=can_fuse([*network.parameters()])
        )
        self.discriminator = DcganDiscriminator(image_shape, generator=generator)
        weights = [*self.discriminator.parameters()]
        self._optimizer = torch.optim.Adam(weights, lr=rate, betas=_BETAS, fused=can_fuse(weights))

    def draw(self, count: int) -> Tensor:
        """Draw (count, c, h, w) images in [0, 1] with a path for gradients."""
        network = self.synthesiser.network
        images: Tensor = network(network.draw(count, self._chance))
        return images

    @torch.no_grad()
    def sample(self, count: int, *, batch: int = 256) -> Tensor:
        """Draw (count, c, h, w) images in [0, 1] without a path for gradients, count at least 1.

        Drawn in train mode, in batches of the sizes given, the last one perhaps smaller but
        never of a single image, which would have no batch statistics.
        """
        sizes = [batch] * (count // batch) + ([count % batch] if count % batch else [])
        return torch.cat([self.draw(max(size, 2))[:size] for size in sizes])

    def adversarial(self, images: Tensor) -> Tensor:
        """Measure how readily the discriminator takes images for generated ones; 0-d in nats."""
        scores = self.discriminator.logits(images)
        return F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores))

    def discriminate(self, real: Tensor, drawn: Tensor) -> Tensor:
        """Take a step of the discriminator; returns its loss, 0-d and detached."""
        true, false = self.discriminator.logits(real), self.discriminator.logits(drawn.detach())
        loss = F.binary_cross_entropy_with_logits(true, torch.ones_like(true))
        loss = loss + F.binary_cross_entropy_with_logits(false, torch.zeros_like(false))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def train(self, pool: ImageSet, *, epochs: int, batch: int) -> None:
        """Train both on a pool; a last batch of a single image is left out."""
        for _ in range(epochs):
            for real, _ in pool.batches(batch, self._chance):
                if len(real) < 2:
                    continue
                drawn = self.draw(len(real))
                self.discriminate(real, drawn)
                self.synthesiser.descend(self.adversarial(drawn))
