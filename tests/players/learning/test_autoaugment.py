"""AutoAugment on tensors, against torchvision's operations and its copy of the policy."""

import pytest
import torch
from torchvision.transforms import AutoAugment, AutoAugmentPolicy
from torchvision.transforms.v2 import functional as T

from agents.learning.autoaugment import OPERATIONS, POLICY, apply, autoaugment
from envs.seeding import Streams


def pictures(count=6, size=32):
    values = (torch.rand(count, 3, size, size, generator=Streams(0).torch("x")) * 255).round()
    values[1] = (values[1] * 0.3 + 60).round()  # so that stretching has something to do
    return values


def applied(values, name, strength, sign=1):
    count = len(values)
    ids = torch.full((count,), OPERATIONS.index(name))
    return apply(values, ids, torch.full((count,), strength / 9), torch.full((count,), float(sign)))


def test_the_policy_is_the_published_one():
    theirs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    assert len(theirs) == len(POLICY) == 25
    for mine, other in zip(POLICY, theirs, strict=True):
        for (name, odds, strength), (their_name, their_odds, their_strength) in zip(
            mine, other, strict=True
        ):
            assert (name, odds) == (their_name, their_odds)
            assert their_strength in (None, strength)


@pytest.mark.parametrize(
    ("name", "strength", "sign", "reference", "tolerance"),
    [
        ("Invert", 0, 1, T.invert, 0),
        ("Solarize", 3, 1, lambda x: T.solarize(x, 255 - 255 * 3 / 9), 0),
        ("Posterize", 7, 1, lambda x: T.posterize(x, 8 - round(7 / 9 * 4)), 0),
        ("Equalize", 5, 1, T.equalize, 0),
        ("AutoContrast", 5, 1, T.autocontrast, 1),
        ("Brightness", 7, 1, lambda x: T.adjust_brightness(x, 1.7), 0),
        ("Brightness", 7, -1, lambda x: T.adjust_brightness(x, 0.3), 0),
        ("Color", 7, 1, lambda x: T.adjust_saturation(x, 1.7), 1),
        ("Contrast", 7, -1, lambda x: T.adjust_contrast(x, 0.3), 1),
        ("Sharpness", 7, 1, lambda x: T.adjust_sharpness(x, 1.7), 0),
        ("Rotate", 6, 1, lambda x: T.rotate(x, 20.0), 0),
        ("Rotate", 6, -1, lambda x: T.rotate(x, -20.0), 0),
        (
            "TranslateX", 9, 1,
            lambda x: T.affine(x, 0.0, [int(150 / 331 * 32), 0], 1.0, [0.0, 0.0]), 0,
        ),
        (
            "TranslateY", 9, -1,
            lambda x: T.affine(x, 0.0, [0, -int(150 / 331 * 32)], 1.0, [0.0, 0.0]), 0,
        ),
    ],
)  # fmt: skip
def test_an_operation_is_torchvisions(name, strength, sign, reference, tolerance):
    values = pictures()
    expected = reference(values.to(torch.uint8)).float()
    assert float((applied(values, name, strength, sign) - expected).abs().max()) <= tolerance


@pytest.mark.parametrize("sign", [1, -1])
def test_shearing_moves_each_row_by_its_height(sign):
    values = torch.zeros(1, 1, 9, 9)
    values[0, 0, :, 4] = 255  # an upright line
    sheared = applied(values, "ShearX", 9, sign)[0, 0]
    columns = [int(row.argmax()) for row in sheared]
    # each pixel is the nearest one
    assert all(abs(column - (4 - sign * 0.3 * y)) < 0.501 for y, column in enumerate(columns))
    assert columns[0] == 4
    assert len(set(columns)) == 3


def test_an_image_without_an_operation_stays_as_it_is():
    values = pictures()
    same = apply(values, torch.full((6,), -1), torch.ones(6), torch.ones(6))
    assert torch.equal(same, values)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28)])
def test_a_batch_stays_in_8_bits_and_changes(shape):
    images = torch.rand(50, *shape, generator=Streams(1).torch("images"))
    first = autoaugment(images, Streams(2).torch("chance"))
    assert first.shape == images.shape
    assert torch.equal((first * 255).round() / 255, first)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, autoaugment(images, Streams(2).torch("chance")))
    changed = (first - images).abs().flatten(1).amax(1) > 1 / 255
    assert 0.5 < float(changed.float().mean()) <= 1
