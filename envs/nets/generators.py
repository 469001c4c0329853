"""Image synthesisers of data-free attacks, and the discriminator that one of them needs.

Both generators show their pre-activation image, because DFME perturbs it before the last tanh,
and map tanh's (-1, 1) to the [0, 1] of the query interface. Sizes follow the image shape: the
published ones from 32 pixels, smaller ones for 28 and 8 pixels.

Source:
    Truong et al. 2021 (DFME), arXiv:2011.14779; Sanyal et al. 2022 (DFMS-HL),
    arXiv:2204.11022; Radford et al. 2016 (DCGAN), arXiv:1511.06434.
"""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.errors import ScenarioError
from envs.nets.init import initialise, materialise

_DCGAN_WIDEST = 512


class ImageGenerator(nn.Module):
    """Maps latents to images; subclasses say how.

    Attributes:
        latent: numbers in a latent z ~ N(0, I).
        image_shape: (channels, height, width) of what it makes.
    """

    def __init__(self, latent: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.latent, self.image_shape = latent, image_shape

    def pre_activation(self, z: Tensor) -> Tensor:
        """Return the images before tanh, (n, c, h, w), of (n, latent)."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """Return images in [0, 1], (n, c, h, w), of (n, latent)."""
        return tanh_to_unit(self.pre_activation(z))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw (count, latent) standard normal latents on the generator's device."""
        return torch.randn(count, self.latent, generator=generator, device=generator.device)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew, as at the start; the module stays where it is."""
        raise NotImplementedError


def tanh_to_unit(pre_activation: Tensor) -> Tensor:
    """Squash a pre-activation image to [0, 1] by tanh."""
    # in float32 tanh reaches +-1 exactly and never beyond, so the oracle's range check holds
    return (pre_activation.tanh() + 1) / 2


class _Size(NamedTuple):
    latent: int
    channels: int


class DfmeGenerator(ImageGenerator):
    """A linear layer to a small map, then up-sampling and 3x3 convolutions.

    Ends in a normalisation without weights, so its pre-activations have unit variance. Use it in
    train mode: batch statistics are part of how the attack behaves.

    Args:
        image_shape: each side a power of two times 2 to 8; 32 gives the published network.
        generator: where the weights come from; the network lands on its device.
        latent: instead of the default for the size (256 from 32 pixels, 128 from 16, else 64).
        width: factor on the channels, which come to an even number.
        weight_std: draw convolutions from N(0, weight_std) without bias, and the weights of
            normalisations from N(1, weight_std), as the released code of the Dynamic Neural
            Fortress does, instead of torch's default.

    Raises:
        ScenarioError: a side cannot be reached by doubling.

    Notes:
        The published class grows its linear layer with the square of the image; from 64 pixels
        this one starts at 5 to 8 pixels instead and doubles more often.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        generator: torch.Generator,
        latent: int | None = None,
        width: float = 1.0,
        weight_std: float | None = None,
    ) -> None:
        size = _dfme_size(min(image_shape[1:]))
        super().__init__(size.latent if latent is None else latent, image_shape)
        doublings = _doublings(image_shape, at_least=2, start_above=8)
        channels = max(2, 2 * round(size.channels * width / 2))
        self._start = (channels, *(side >> doublings for side in image_shape[1:]))
        self._weight_std = weight_std
        with torch.device("meta"):
            self.project = nn.Linear(self.latent, _product(self._start))
            self.body = self._lay_body(channels, image_shape[0], doublings)
        self.to_empty(device=generator.device)
        self.reset(generator)

    @staticmethod
    def _lay_body(channels: int, image_channels: int, doublings: int) -> nn.Sequential:
        layers: list[nn.Module] = [nn.BatchNorm2d(channels)]
        for left in reversed(range(doublings)):
            after = channels if left else channels // 2
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, after, 3, padding=1)]
            layers += [nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        last = nn.Conv2d(channels // 2, image_channels, 3, padding=1)
        return nn.Sequential(*layers, last, nn.BatchNorm2d(image_channels, affine=False))

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew, as at the start."""
        initialise(self, generator=generator, scheme="default")
        if self._weight_std is None:
            return
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, self._weight_std, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.BatchNorm2d) and layer.affine:
                nn.init.normal_(layer.weight, 1.0, self._weight_std, generator=generator)

    def pre_activation(self, z: Tensor) -> Tensor:
        """Return the images before tanh, (n, c, h, w), of (n, latent)."""
        start = self.project(z).reshape(len(z), *self._start)
        images: Tensor = self.body(start)
        return images


class DcganGenerator(ImageGenerator):
    """Transposed 4x4 convolutions without biases, from 1x1 to the image.

    Args:
        image_shape: 32 gives the published network (512-256-128-64); 28 and 8 smaller ones.
        generator: where the weights come from; the network lands on its device.
        latent: numbers in a latent.

    Raises:
        ScenarioError: a side cannot be reached by doubling.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        generator: torch.Generator,
        latent: int = 100,
    ) -> None:
        super().__init__(latent, image_shape)
        doublings = _doublings(image_shape, at_least=2, start_above=7)
        base = _dcgan_base(min(image_shape[1:]))
        start = [side >> doublings for side in image_shape[1:]]
        widths = [min(base << i, _DCGAN_WIDEST) for i in reversed(range(doublings + 1))]
        with torch.device("meta"):
            first = nn.ConvTranspose2d(latent, widths[0], (start[0], start[1]), bias=False)
            layers: list[nn.Module] = [first, nn.BatchNorm2d(widths[0]), nn.ReLU()]
            for before, after in itertools.pairwise(widths):
                layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
                layers += [nn.BatchNorm2d(after), nn.ReLU()]
            last = nn.ConvTranspose2d(widths[-1], image_shape[0], 1, bias=False)
            self.body = nn.Sequential(*layers, last)
        materialise(self, generator=generator, scheme="dcgan")

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew, as at the start."""
        initialise(self, generator=generator, scheme="dcgan")

    def pre_activation(self, z: Tensor) -> Tensor:
        """Return the images before tanh, (n, c, h, w), of (n, latent)."""
        images: Tensor = self.body(z[:, :, None, None])
        return images


class DcganDiscriminator(nn.Module):
    """Tells images of a pool from generated ones; 4x4 convolutions of stride 2, no biases.

    Args:
        image_shape: 32 gives the published network (64-128-256-512).
        generator: where the weights come from; the network lands on its device.

    Notes:
        Images come in [0, 1] as everywhere in the arena and are mapped to [-1, 1] here.
    """

    def __init__(self, image_shape: tuple[int, int, int], *, generator: torch.Generator) -> None:
        super().__init__()
        halvings = _doublings(image_shape, at_least=2, start_above=2)
        base = _dcgan_base(min(image_shape[1:]))
        widths = [image_shape[0], *(min(base << i, _DCGAN_WIDEST) for i in range(halvings))]
        last = [side >> halvings for side in image_shape[1:]]
        with torch.device("meta"):
            layers: list[nn.Module] = []
            for before, after in itertools.pairwise(widths):
                layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=False))
                layers += [nn.BatchNorm2d(after)] if len(layers) > 1 else []
                layers.append(nn.LeakyReLU(0.2))
            self.body = nn.Sequential(
                *layers, nn.Conv2d(widths[-1], 1, (last[0], last[1]), bias=False), nn.Flatten(0)
            )
        materialise(self, generator=generator, scheme="dcgan")

    def logits(self, images: Tensor) -> Tensor:
        """Return (n,) log-odds that an image is of the pool; images (n, c, h, w) in [0, 1]."""
        scores: Tensor = self.body(2 * images - 1)
        return scores

    def forward(self, images: Tensor) -> Tensor:
        """Return (n,) probabilities that an image is of the pool."""
        return self.logits(images).sigmoid()


def _dfme_size(side: int) -> _Size:
    if side >= 32:
        return _Size(256, 128)
    return _Size(128, 64) if side >= 16 else _Size(64, 64)


def _dcgan_base(side: int) -> int:
    """Return the channels next to the image; 8-pixel digits need fewer."""
    return 64 if side >= 16 else 32


def _product(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def _doublings(image_shape: tuple[int, int, int], *, at_least: int, start_above: int) -> int:
    """Count how often a map must double to become the image.

    The first map is what `at_least` halvings leave, halved further while it is even and above
    `start_above` pixels.

    Raises:
        ScenarioError: a side is not divisible so often, or nothing would be left to start from.
    """
    count, side = at_least, min(image_shape[1:]) >> at_least
    while side > start_above and side % 2 == 0:
        side, count = side >> 1, count + 1
    if side < 1 or any(length % (1 << count) for length in image_shape[1:]):
        raise ScenarioError(
            f"a generator reaches its image by doubling; expected sides divisible by {1 << count}, "
            f"got {image_shape[1]}x{image_shape[2]}; pad or resize the images"
        )
    return count
