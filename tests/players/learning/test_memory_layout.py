"""Channels-last: the same losses and weights for equal seeds, for large images alone."""

import pytest
import torch
from torch import nn

from agents.attackers.dfme import DFME
from agents.base import Kit
from agents.learning import memory_layout
from agents.learning.memory_layout import laid_out
from envs.nets import registry

SHAPE, CLASSES = (3, 32, 32), 4


def clone() -> nn.Module:
    return registry.build(
        "resnet18-8x",
        num_classes=CLASSES,
        image_shape=SHAPE,
        generator=torch.Generator().manual_seed(1),
        width=0.0625,
    )


def brightness(images: torch.Tensor) -> torch.Tensor:
    means = images.mean((1, 2, 3))[:, None] * torch.arange(1, CLASSES + 1)
    return means.softmax(1)


def prepared(oracle) -> tuple[DFME, Kit]:
    attacker = DFME(batch=8)
    kit = Kit(device=torch.device("cpu"), generator=torch.Generator().manual_seed(2),
              new_clone=clone)  # fmt: skip
    attacker.prepare(oracle, kit)
    return attacker, kit


def played(oracle) -> tuple[DFME, torch.Tensor]:
    """Take steps of the clone and one of the generator, and return what they reported too.

    The generator's comes last: it divides differences of 1e-5 by 1e-3, so that images drawn after
    it differ by more than rounding.
    """
    attacker, kit = prepared(oracle)
    for _ in range(3):
        attacker.clone_step(oracle, kit, 8)
    attacker.generator_step(oracle, kit)
    losses = torch.stack([*attacker._seen["clone_loss"], *attacker._seen["generator_loss"]])
    return attacker, losses.double()


def is_wide(weights: torch.Tensor) -> bool:
    return weights.is_contiguous(memory_format=torch.channels_last) and not weights.is_contiguous()


def test_losses_and_weights_are_those_of_the_usual_layout(fake_oracle, monkeypatch):
    def new_oracle():
        return fake_oracle(1_000, brightness, shape=SHAPE, classes=CLASSES)

    wide, losses = played(new_oracle())
    monkeypatch.setattr(memory_layout, "FROM_PIXELS", 64)
    usual, expected = played(new_oracle())
    convolutions = [a for a in zip(wide.clone.parameters(), usual.clone.parameters(), strict=True)
                    if a[0].ndim == 4]  # fmt: skip
    assert is_wide(convolutions[1][0])
    assert not is_wide(convolutions[1][1])
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    for after, before in zip(wide.clone.parameters(), usual.clone.parameters(), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_a_generator_learns_the_same_from_the_same_gradient(fake_oracle, monkeypatch):
    drawn = []
    for least in (32, 64):
        monkeypatch.setattr(memory_layout, "FROM_PIXELS", least)
        oracle = fake_oracle(1_000, brightness, shape=SHAPE, classes=CLASSES)
        synthesiser = prepared(oracle)[0].synthesiser
        gradient = torch.randn((8, *SHAPE), generator=torch.Generator().manual_seed(3))
        synthesiser.descend(synthesiser.pre_activations(8), gradient)
        drawn.append(synthesiser.images(8))
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=2e-3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 31, 64)])
def test_small_images_change_no_layout(shape):
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Linear(4, 4))
    assert laid_out(network, shape) is network
    assert network[0].weight.is_contiguous()


def test_only_weights_of_plane_convolutions_move():
    network = nn.ModuleList([nn.Conv2d(8, 8, 3), nn.Conv3d(8, 8, 3), nn.Linear(4, 4)])
    before = [weights.clone() for weights in network.parameters()]
    laid_out(network, SHAPE)
    assert is_wide(network[0].weight)
    assert network[1].weight.is_contiguous()
    assert all(map(torch.equal, network.parameters(), before))
