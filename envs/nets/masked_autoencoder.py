"""A masked autoencoder of images: a vision transformer that restores what it did not see."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from envs.errors import ScenarioError

_SPREAD = 0.02  # of tokens and positions at the start
_WIDER = 4  # hidden units of a block's perceptron, in widths


class Block(nn.Module):
    """Attention and a perceptron, each behind a normalisation and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, _WIDER * width), nn.GELU(), nn.Linear(_WIDER * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, tokens, width) to the same shape."""
        # (n, tokens, 3 width) to three of (n, heads, tokens, width / heads)
        parts = self.attend(self.before(tokens)).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.project(seen.transpose(1, 2).flatten(2))
        restored: Tensor = tokens + self.perceptron(self.after(tokens))
        return restored


def check_layout(image_shape: tuple[int, int, int], *, patch: int, width: int, heads: int) -> None:
    """Check what can be known before a network is built.

    Raises:
        ScenarioError: patches do not cover the image, or heads do not divide the width.
    """
    _, rows, columns = image_shape
    if rows % patch or columns % patch:
        raise ScenarioError(
            f"expected a patch that divides the sides of {rows}x{columns} images, got {patch}"
        )
    if width % heads:
        raise ScenarioError(f"expected a width that is a multiple of {heads} heads, got {width}")


class MaskedAutoencoder(nn.Module):
    """Encodes the patches of an image that it sees, and decodes all of them.

    Args:
        image_shape: (channels, height, width).
        patch: side of a patch, in pixels.
        width: numbers in a token, a multiple of `heads`.
        encoder: blocks of the encoder.
        decoder: blocks of the decoder.
        heads: of the attention.
        generator: where the weights come from; the network lands on its device.

    Raises:
        ScenarioError: patches do not cover the image, or heads do not divide the width.

    Source:
        He et al. 2022, Masked Autoencoders Are Scalable Vision Learners, CVPR, arXiv:2111.06377;
        encoder and decoder have one width here, as in SAME's code.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        patch: int,
        width: int,
        encoder: int,
        decoder: int,
        heads: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        channels, rows, columns = image_shape
        check_layout(image_shape, patch=patch, width=width, heads=heads)
        places = (rows // patch) * (columns // patch)
        drawn = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(drawn)  # layers draw their weights from the global stream alone
            self.cut = nn.Conv2d(channels, width, patch, patch)
            self.encoder = nn.Sequential(*(Block(width, heads) for _ in range(encoder)))
            self.norm = nn.LayerNorm(width)
            self.decoder = nn.Sequential(*(Block(width, heads) for _ in range(decoder)))
            self.paint = nn.Linear(width, channels * patch**2)
            self.whole, self.hidden = _token(1, width), _token(1, width)
            self.places, self.decoded_places = _token(places, width), _token(places + 1, width)
        self._patch = patch
        self._unfolded = (channels, patch, rows // patch, columns // patch)
        self.to(generator.device)

    def forward(self, images: Tensor, order: Tensor | None = None, seen: int = 0) -> Tensor:
        """Restore images.

        Args:
            images: (n, c, h, w).
            order: (n, places) int64, for each image its patches in an order, of which the
                encoder sees the first `seen`; without it, it sees all.
            seen: patches that are seen.

        Returns:
            (n, c, h, w), every patch as decoded.
        """
        tokens = self.cut(images).flatten(2).transpose(1, 2) + self.places  # (n, places, width)
        if order is not None:
            tokens = _picked(tokens, order[:, :seen])
        whole = self.whole.expand(len(tokens), 1, -1)
        tokens = self.norm(self.encoder(torch.cat((whole, tokens), 1)))
        whole, tokens = tokens[:, :1], tokens[:, 1:]
        if order is not None:
            unseen = self.hidden.expand(len(tokens), order.shape[1] - seen, -1)
            tokens = _picked(torch.cat((tokens, unseen), 1), order.argsort(1))
        decoded = self.decoder(torch.cat((whole, tokens), 1) + self.decoded_places)
        painted: Tensor = self.paint(decoded[:, 1:])  # (n, places, c patch^2)
        return self._joined(painted)

    def _joined(self, painted: Tensor) -> Tensor:
        channels, patch, rows, columns = self._unfolded
        # (n, rows, columns, c, patch, patch) to (n, c, h, w)
        squares = painted.unflatten(2, (channels, patch, patch)).unflatten(1, (rows, columns))
        joined: Tensor = squares.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        return joined


def _token(count: int, width: int) -> nn.Parameter:
    values = torch.empty(1, count, width)
    return nn.Parameter(nn.init.trunc_normal_(values, std=_SPREAD))


def _picked(tokens: Tensor, order: Tensor) -> Tensor:
    return tokens.gather(1, order.unsqueeze(2).expand(-1, -1, tokens.shape[2]))
