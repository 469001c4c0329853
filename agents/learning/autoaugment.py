"""AutoAugment's CIFAR policy on batches, where the images are.

Each image goes through one of 25 sub-policies, which is two operations with a probability and a
strength each. Images that drew the same operation go through torchvision's function together.

Source:
    Cubuk et al. 2019, AutoAugment, CVPR, arXiv:1805.09501, table 7 (the policy) and table 6 (the
    operations and their ranges).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

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
_ODDS = torch.tensor([[odds for _, odds, _ in pair] for pair in POLICY])


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
    signs = torch.randint(2, (2, count), generator=generator, device=device)
    values = (images * 255).round().to(torch.uint8)
    happens = coins < _ODDS.to(device).t()[:, choice]  # (2, n)
    drawn = (2 * choice + signs).where(happens, -1).tolist()  # the one wait for the device
    for place, mine in enumerate(drawn):
        for one in sorted(set(mine) - {-1}):
            group = torch.tensor([n for n, other in enumerate(mine) if other == one], device=device)
            name, _, strength = POLICY[one // 2][place]
            values[group] = apply(values[group], name, strength / 9, 1 if one % 2 else -1)
    return values / 255


def apply(values: Tensor, name: str, strength: float, sign: int) -> Tensor:
    """Apply one operation to images.

    Args:
        values: (n, c, h, w) uint8.
        name: of the operation, as in `POLICY`.
        strength: from 0 to 1; the policy's strength over 9.
        sign: +1 or -1, the direction of those operations that have one.

    Returns:
        The same form.
    """
    # only attackers that augment need torchvision, which takes a second to import
    from torchvision.transforms.v2 import functional as T

    height, width = values.shape[2:]
    directed = sign * strength
    slope = math.degrees(math.atan(0.3 * directed))
    moved = 150 / 331 * directed  # of a side
    factor = 1 + 0.9 * directed
    corner = [0.5, 0.5]  # the centre of the first pixel
    operations: dict[str, Callable[[], Tensor]] = {
        "ShearX": lambda: T.affine(values, 0.0, [0, 0], 1.0, [slope, 0.0], center=corner),
        "ShearY": lambda: T.affine(values, 0.0, [0, 0], 1.0, [0.0, slope], center=corner),
        "TranslateX": lambda: T.affine(values, 0.0, [int(moved * width), 0], 1.0, [0.0, 0.0]),
        "TranslateY": lambda: T.affine(values, 0.0, [0, int(moved * height)], 1.0, [0.0, 0.0]),
        "Rotate": lambda: T.rotate(values, 30 * directed),
        "Brightness": lambda: T.adjust_brightness(values, factor),
        "Color": lambda: T.adjust_saturation(values, factor),
        "Contrast": lambda: T.adjust_contrast(values, factor),
        "Sharpness": lambda: T.adjust_sharpness(values, factor),
        "Posterize": lambda: T.posterize(values, 8 - round(4 * strength)),
        "Solarize": lambda: T.solarize(values, 255 - 255 * strength),
        "AutoContrast": lambda: T.autocontrast(values),
        "Equalize": lambda: T.equalize(values),
        "Invert": lambda: T.invert(values),
    }
    return operations[name]()
