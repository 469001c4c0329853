"""AutoAugment's CIFAR policy as tensor operations on 8-bit images, where the images are.

An image goes through one of 25 sub-policies, which is two operations with a probability and a
strength each. Every operation is one of three kinds: it moves pixels, mixes the image with a plain
version of itself, or maps each value through a table. So a whole batch, each image with its own
operation, takes one pass of each kind per operation, with neutral settings for the others.

Source:
    Cubuk et al. 2019, AutoAugment, CVPR, arXiv:1805.09501, table 7 (the policy) and table 6 (the
    operations and their ranges).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_BLENDS = ("Brightness", "Color", "Contrast", "Sharpness")
_TABLES = ("Posterize", "Solarize", "AutoContrast", "Equalize", "Invert")
OPERATIONS = (*_MOVES, *_BLENDS, *_TABLES)
_SIGNED = frozenset((*_MOVES, *_BLENDS))

# operation, probability, strength 0 to 9
POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 3)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 8), ("Equalize", 0.6, 4)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
    (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
)
_IDS = torch.tensor([[OPERATIONS.index(name) for name, _, _ in pair] for pair in POLICY])
_ODDS = torch.tensor([[odds for _, odds, _ in pair] for pair in POLICY])
_STRENGTHS = torch.tensor([[strength for _, _, strength in pair] for pair in POLICY])
_NOTHING = -1


def autoaugment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Send each image through a sub-policy of its own.

    Args:
        images: (n, c, h, w) float32 in [0, 1], of 1 or 3 channels.
        generator: on the images' device.

    Returns:
        (n, c, h, w) float32, 8-bit values in [0, 1].

    Notes:
        Pixels that flow in are black, and each is taken from the nearest one. Grey images have
        no colour to change, so that "Color" leaves them alone.
    """
    device, count = images.device, len(images)
    choice = torch.randint(len(POLICY), (count,), generator=generator, device=device)
    coins = torch.rand((2, count), generator=generator, device=device)
    signs = torch.randint(2, (2, count), generator=generator, device=device) * 2 - 1
    values = (images * 255).round()
    for place in range(2):
        ids = _IDS.to(device)[choice, place]
        happens = coins[place] < _ODDS.to(device)[choice, place]
        strength = _STRENGTHS.to(device)[choice, place] / 9
        values = apply(values, ids.where(happens, _NOTHING), strength, signs[place])
    return values / 255


def apply(values: Tensor, ids: Tensor, strength: Tensor, signs: Tensor) -> Tensor:
    """Apply one operation to each image.

    Args:
        values: (n, c, h, w) float32, whole numbers 0 to 255.
        ids: (n,) indices of `OPERATIONS`; -1 leaves an image alone.
        strength: (n,) from 0 to 1; the policy's strength over 9.
        signs: (n,) +1 or -1, the direction of those operations that have one.

    Returns:
        The same form.
    """
    directed = strength * signs
    moved = _move(values, ids, directed)
    blended = _blend(moved, ids, directed)
    return _look_up(blended, ids, strength)


def _is(ids: Tensor, name: str) -> Tensor:
    return ids == OPERATIONS.index(name)


def _move(values: Tensor, ids: Tensor, strength: Tensor) -> Tensor:
    """Shear (up to 0.3), translate (up to 150/331 of a side) or rotate (up to 30 degrees)."""
    height, width = values.shape[2:]
    zero = torch.zeros_like(strength)

    def amount(name: str, largest: float) -> Tensor:
        return torch.where(_is(ids, name), strength * largest, zero)

    angle = amount("Rotate", math.radians(30))
    right = amount("TranslateX", 150 / 331 * width).trunc()
    down = amount("TranslateY", 150 / 331 * height).trunc()
    shear_x, shear_y = amount("ShearX", 0.3), amount("ShearY", 0.3)
    # where each pixel comes from, in pixels around the centre: the inverse of the operation
    rows = torch.arange(height, device=values.device) - (height - 1) / 2
    columns = torch.arange(width, device=values.device) - (width - 1) / 2
    y, x = rows[None, :, None], columns[None, None, :]

    def by_image(each: Tensor) -> Tensor:
        return each[:, None, None]

    cos, sin = by_image(angle.cos()), by_image(angle.sin())
    from_x = cos * x - sin * y + by_image(shear_x) * (y + (height - 1) / 2) - by_image(right)
    from_y = sin * x + cos * y + by_image(shear_y) * (x + (width - 1) / 2) - by_image(down)
    column = (from_x + (width - 1) / 2).round().long()
    row = (from_y + (height - 1) / 2).round().long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)  # (n, h, w)
    flat = place.flatten(1)[:, None].expand(-1, values.shape[1], -1)
    taken = values.flatten(2).gather(2, flat).view_as(values)
    return taken * inside[:, None]


def _blend(values: Tensor, ids: Tensor, strength: Tensor) -> Tensor:
    """Mix with black, the grey image, the mean grey or a smoothed image; factor 1 +- up to 0.9."""
    grey = luma(values)
    middle = (grey.mean((2, 3), keepdim=True) + 0.5).floor()
    plain = torch.zeros_like(values)
    for name, version in (("Color", grey), ("Contrast", middle), ("Sharpness", smooth(values))):
        plain = torch.where(_is(ids, name)[:, None, None, None], version, plain)
    blends = torch.isin(ids, torch.tensor([OPERATIONS.index(b) for b in _BLENDS]).to(ids.device))
    factor = (1 + 0.9 * strength).where(blends, 1.0)[:, None, None, None]
    return (plain + factor * (values - plain)).clamp(0, 255).trunc()


def luma(values: Tensor) -> Tensor:
    """Return the (n, 1, h, w) brightness (ITU-R 601), whole numbers; grey images as they are."""
    if values.shape[1] == 1:
        return values
    weights = torch.tensor([0.299, 0.587, 0.114], device=values.device).view(1, 3, 1, 1)
    return (values * weights).sum(1, keepdim=True).round()


def smooth(values: Tensor) -> Tensor:
    """Average each inner pixel with its neighbours, itself counted five times of thirteen."""
    if min(values.shape[2:]) < 3:
        return values
    channels = values.shape[1]
    kernel = torch.ones(3, 3, device=values.device)
    kernel[1, 1] = 5
    kernel = (kernel / 13).expand(channels, 1, 3, 3)
    result = values.clone()
    result[:, :, 1:-1, 1:-1] = F.conv2d(values, kernel, groups=channels).round()
    return result


def _look_up(values: Tensor, ids: Tensor, strength: Tensor) -> Tensor:
    """Map the values of each image and channel through a table of 256."""
    ramp = torch.arange(256.0, device=values.device).expand(*values.shape[:2], 256)
    level = strength[:, None, None]
    # 8 bits down to 4, in the steps of ten strengths
    bits = 8 - (level * 4).round()
    size = torch.exp2(8 - bits)
    tables = {
        "Invert": 255 - ramp,
        "Solarize": torch.where(ramp >= 255 - 255 * level, 255 - ramp, ramp),
        "Posterize": (ramp / size).floor() * size,
        "AutoContrast": _stretched(values, ramp),
        "Equalize": _equalised(values, ramp),
    }
    table = ramp
    for name, each in tables.items():
        table = torch.where(_is(ids, name)[:, None, None], each, table)
    return table.gather(2, values.flatten(2).long()).view_as(values)


def _stretched(values: Tensor, ramp: Tensor) -> Tensor:
    """Return the table that stretches each channel to 0 .. 255; a flat channel stays."""
    low = values.amin((2, 3)).unsqueeze(2)
    span = values.amax((2, 3)).unsqueeze(2) - low
    stretched = ((ramp - low) * (255 / span.clamp_min(1))).clamp(0, 255).trunc()
    return torch.where(span > 0, stretched, ramp)


def _equalised(values: Tensor, ramp: Tensor) -> Tensor:
    """Return the table that evens out the histogram of each channel, as Pillow does."""
    flat = values.flatten(2).long()
    counts = torch.zeros_like(ramp).scatter_add(2, flat, torch.ones_like(values).flatten(2))
    last = counts.gather(2, flat.amax(2, keepdim=True))  # what the brightest value holds
    step = ((flat.shape[2] - last) / 255).floor()
    before = counts.cumsum(2) - counts
    table = ((before + (step / 2).floor()) / step.clamp_min(1)).floor().clamp(0, 255)
    return torch.where(step > 0, table, ramp)
