"""The undefended victim as its owner may look at it: features of any layer, and a copy to train."""

import copy

import torch
from torch import Tensor, nn

from envs.errors import NotGranted, UnknownName
from envs.nets.staged import Staged
from envs.training.linear_probe import images_at_once
from envs.victim.victim import Victim

TOGETHER = 512
"""Images that run at once."""


class Owned:
    """Looks into a victim for its owner; see `envs.game.rounds.OwnVictim`.

    Args:
        victim: undefended. It is only read.
    """

    def __init__(self, victim: Victim) -> None:
        self._victim = victim

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose output may be asked for, as the network's author wrote them."""
        return tuple(name for name, _ in self._backbone.named_modules() if name)

    def features(self, images: Tensor, layer: str | None = None) -> Tensor:
        """Compute what a layer makes of images; see `OwnVictim.features`."""
        backbone = self._backbone
        parts = torch.split(images, images_at_once(images, TOGETHER))
        with torch.inference_mode():
            if layer is None:
                found = [_embedded(backbone, part) for part in parts]
            else:
                module = dict(backbone.named_modules()).get(layer or "-")
                if module is None:
                    raise UnknownName("layer of the victim", layer, self.layers)
                found = [_left_by(module, backbone, part, layer) for part in parts]
        # outside of inference mode, so that a defender may compute on it
        return torch.cat(found).clone()

    def network(self) -> nn.Module:
        """Return a copy of the layers up to the classifier; see `OwnVictim.network`."""
        backbone = copy.deepcopy(self._backbone)
        backbone.classifier = nn.Identity()
        if next(backbone.parameters(), None) is None:
            raise NotGranted("the victim's network cannot be trained further")
        return backbone.requires_grad_(True).eval()

    @property
    def _backbone(self) -> Staged:
        if self._victim.is_remote:
            raise NotGranted("the victim runs elsewhere: its layers are not known here")
        return self._victim.network.backbone


def _embedded(backbone: Staged, images: Tensor) -> Tensor:
    """Return the (n, width) input of the classifier."""
    features = images
    for stage in backbone.stages:
        features = stage(features)
    return backbone.embed(features)


def _left_by(module: nn.Module, backbone: Staged, images: Tensor, name: str) -> Tensor:
    """Return what a layer leaves; what it leaves last where it runs more than once."""
    left: list[object] = []
    hook = module.register_forward_hook(lambda layer, inputs, output: left.append(output))
    try:
        backbone(images)
    finally:
        hook.remove()
    if not left or not isinstance(left[-1], Tensor):
        raise NotGranted(f"the victim's layer '{name}' leaves no tensor that could be looked at")
    return left[-1]
