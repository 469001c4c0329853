"""Parts that turn the transformers of timm into chains of stages: stems, grids, necks, heads.

Between stages features are tokens, (n, tokens, width), whatever the network's own form.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from envs.nets.staged import HeadStyle, Plan, Staged

_STD = 0.02


class TokenStem(nn.Module):
    """Cuts images into patches, puts tokens of its own before them and adds positions.

    Args:
        patches: maps (n, c, h, w) to (n, places, width).
        positions: (1, tokens, width).
        lead: tokens that go first, each (1, 1, width).
    """

    def __init__(
        self, patches: nn.Module, positions: nn.Parameter, lead: Sequence[nn.Parameter] = ()
    ) -> None:
        super().__init__()
        self.patches, self.positions = patches, positions
        self.lead = nn.ParameterList(lead)

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, tokens, width)."""
        places = self.patches(images)
        lead = [token.expand(places.shape[0], -1, -1) for token in self.lead]
        return torch.cat([*lead, places], 1) + self.positions


class OnGrid(nn.Module):
    """Runs layers that want tokens on a grid, (n, h, w, width).

    Args:
        layers: in order.
        grid: (h, w) of the tokens that come; None where images do.
    """

    def __init__(self, layers: Sequence[nn.Module], grid: tuple[int, int] | None) -> None:
        super().__init__()
        self.layers, self.grid = nn.Sequential(*layers), grid

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, tokens, width), or images, to (n, tokens', width')."""
        if self.grid is not None:
            features = features.unflatten(1, self.grid)  # (n, h, w, width)
        placed: Tensor = self.layers(features)
        return placed.flatten(1, 2)


class LeadTokens(nn.Module):
    """Normalises the leading tokens and puts them side by side: (n, count * width).

    Args:
        norm: over the width of a token.
        count: tokens to read.
    """

    def __init__(self, norm: nn.Module, count: int) -> None:
        super().__init__()
        self.norm, self.count = norm, count

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, tokens, width) to (n, count * width)."""
        lead: Tensor = self.norm(tokens[:, : self.count])
        return lead.flatten(1)


class MeanToken(nn.Module):
    """Normalises all tokens and averages them: (n, width)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, tokens, width) to (n, width)."""
        normal: Tensor = self.norm(tokens)
        return normal.mean(1)


class ClassAttention(nn.Module):
    """Lets a class token look at all patches, layer by layer: CaiT's last part.

    Args:
        token: (1, 1, width).
        blocks: take patches and token.
        norm: over the width of a token.
    """

    def __init__(self, token: nn.Parameter, blocks: Sequence[nn.Module], norm: nn.Module) -> None:
        super().__init__()
        self.token, self.blocks, self.norm = token, nn.ModuleList(blocks), norm

    def forward(self, patches: Tensor) -> Tensor:
        """Map (n, places, width) to (n, width)."""
        token = self.token.expand(patches.shape[0], -1, -1)
        for block in self.blocks:
            token = block(patches, token)
        normal: Tensor = self.norm(token)
        return normal[:, 0]


class TwoHeads(nn.Module):
    """Averages two classifiers, each of a token of its own, as a distilled DeiT serves."""

    def __init__(self, first: nn.Linear, second: nn.Linear) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, embedded: Tensor) -> Tensor:
        """Map (n, 2 * width) to (n, K) logits."""
        left, right = embedded.chunk(2, 1)
        logits: Tensor = (self.first(left) + self.second(right)) / 2
        return logits


class Transformer(Staged):
    """A chain of stages over tokens.

    Heads on it normalise every token. Starting weights are the usual ones of its kind: normal
    with deviation 0.02, cut off at two, and biases of 0.

    Args:
        plan, stages, widths, neck, classifier, family, depth, width: as for `Staged`; depth counts
            blocks of patches, as names of transformers do.
        reads_first: exits read the first token alone instead of the mean of all.
        layer_scale: where the scales of CaiT's branches start.
    """

    def __init__(
        self,
        plan: Plan,
        stages: Sequence[nn.Module],
        *,
        widths: Sequence[int],
        neck: nn.Module,
        classifier: nn.Module,
        family: str,
        depth: int,
        width: int,
        reads_first: bool,
        layer_scale: float = 1.0,
    ) -> None:
        super().__init__(
            plan,
            stages,
            widths=widths,
            neck=neck,
            classifier=classifier,
            family=family,
            depth=depth,
            width=width,
            head_style=HeadStyle(layer_norm=True),
        )
        self._reads_first, self._layer_scale = reads_first, layer_scale

    def pool(self, features: Tensor, stage: int = 0) -> Tensor:
        """Read what an exit answers from: (n, width)."""
        return features[:, 0] if self._reads_first else features.mean(1)

    def fill_layer(self, layer: nn.Module, generator: torch.Generator) -> bool:
        """Draw a layer's own starting weights."""
        if isinstance(layer, nn.LayerNorm):
            return False
        # masks and indices of timm's Swin
        refresh = getattr(layer, "init_non_persistent_buffers", None)
        if refresh is not None:
            refresh()
        own = list(layer.named_parameters(recurse=False))
        for name, weights in own:
            if name.startswith("gamma"):
                weights.fill_(self._layer_scale)
            elif name == "bias":
                weights.zero_()
            else:
                nn.init.trunc_normal_(weights, std=_STD, generator=generator)
        return bool(own) or refresh is not None
