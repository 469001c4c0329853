"""Synthetic shapes: a surrogate pool that needs no data, and a toy task with labels.

The pool is pool (c) of the data-free hard-label attack (Sanyal et al. 2022, arXiv:2204.11022,
and its code): a canvas of one random colour, many small overlapping shapes of random colours, a
box blur, and a nearest-neighbour resize to the victim's size. The toy task shows one large shape
a picture; which shape it is, is the class.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from envs.data.images import ImageSet, Splits
from envs.data.resize import fit_to
from envs.data.splits import make_splits
from envs.errors import ArenaError
from envs.ranges import Pictures, Share, Side
from envs.seeding import Streams

KINDS = (
    "bar", "pillar", "cross", "ring", "triangle",
    "square", "saltire", "chequer", "diamond", "disc",
)  # fmt: skip

_SMALLEST, _LARGEST = 5, 10  # sides of a pool shape on its canvas, in pixels
_MARGIN = _LARGEST // 2
_POOL_CHUNK = 250  # canvases of 48 kB that stay in the cache of a core
_TOY_CHUNK = 256
_OVERSAMPLING = 4


def shape_mask(kind: str, across: Tensor, down: Tensor) -> Tensor:
    """Tell which points lie inside a shape that fills the square from -1 to 1.

    Args:
        kind: one of `KINDS`.
        across: horizontal coordinates, any shape.
        down: vertical coordinates, of the same or a broadcastable shape; 1 is the lower edge.

    Returns:
        bool, of the broadcast shape.
    """
    wide, tall = across.abs(), down.abs()
    box = torch.maximum(wide, tall) <= 1
    radius = across.square() + down.square()
    masks: dict[str, Callable[[], Tensor]] = {
        "bar": lambda: (tall <= 0.35) & box,
        "pillar": lambda: (wide <= 0.35) & box,
        "cross": lambda: (torch.minimum(wide, tall) <= 0.3) & box,
        "ring": lambda: (radius >= 0.36) & (radius <= 1),
        "triangle": lambda: (wide <= (down + 1) / 2) & box,
        "square": lambda: torch.maximum(wide, tall) <= 0.9,
        "saltire": lambda: ((wide - tall).abs() <= 0.35) & box,
        "chequer": lambda: (across * down > 0) & box,
        "diamond": lambda: wide + tall <= 1,
        "disc": lambda: radius <= 1,
    }
    return masks[kind]()


def shapes_pool(
    count: int,
    image_shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    canvas: Side = 100,
    shapes: Annotated[int, Ge(0), Le(1000)] = 50,
    grey: Share = 0.0,
) -> Tensor:
    """Draw pictures of many small overlapping shapes.

    Args:
        count: pictures to draw.
        image_shape: (channels, height, width) of the result; channels 1 or 3.
        generator: where all chance comes from; the pictures are drawn on its device.
        canvas: side of the canvas in pixels; shapes are 5 to 10 of them wide and high.
        shapes: shapes per picture.
        grey: share of the colour pictures that lose their colour, 0 to 1.

    Returns:
        (count, *image_shape) uint8.

    Notes:
        The reference blurs with OpenCV, whose border mirrors; here the border repeats.
    """
    if not 0 <= grey <= 1 or canvas < 1 or shapes < 0:
        raise ArenaError(
            f"expected canvas >= 1, shapes >= 0 and grey in [0, 1], "
            f"got {canvas}, {shapes} and {grey}"
        )
    channels, height, width = image_shape
    templates = _templates(generator.device)
    parts = []
    for start in range(0, count, _POOL_CHUNK):
        number = min(_POOL_CHUNK, count - start)
        paper = _scribble(number, canvas, shapes, templates=templates, generator=generator)
        picture = _blurred_samples(paper, canvas, (height, width))
        faded = torch.rand(number, generator=generator, device=generator.device) < grey
        luma = fit_to(picture, (1, height, width))
        if channels == 1:
            parts.append(luma)
        else:
            colour = torch.where(faded.view(-1, 1, 1, 1), luma, picture)
            parts.append(fit_to(colour, image_shape))
    if not parts:
        return torch.empty((0, *image_shape), dtype=torch.uint8, device=generator.device)
    return torch.cat(parts)


def _templates(device: torch.device) -> Tensor:
    """Rasterise every kind in every width and height, (kinds, 6, 6, 100) bool."""
    sides = range(_SMALLEST, _LARGEST + 1)
    place = torch.arange(_LARGEST) + 0.5 - _LARGEST / 2
    rows = [
        shape_mask(kind, place.view(1, -1) / (wide / 2), place.view(-1, 1) / (tall / 2)).flatten()
        for kind in KINDS
        for wide in sides
        for tall in sides
    ]
    return torch.stack(rows).view(len(KINDS), len(sides), len(sides), -1).to(device)


def _scribble(
    number: int, canvas: int, shapes: int, *, templates: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw the shapes over one another, (number, side, side) packed, with a margin all around.

    Only the 10x10 patch of a shape is touched: per picture 50 patches cost half a canvas. The
    three channels of a pixel are packed into one int64 (see `_packed`), so that a patch is
    fetched and put back once.
    """
    device, side = generator.device, canvas + 2 * _MARGIN

    def draw(high: int, *size: int) -> Tensor:
        return torch.randint(high, (*size, number, 1), generator=generator, device=device)

    paper = _packed(draw(1 << 24)).repeat(1, side * side)
    local = torch.arange(_LARGEST, device=device)
    patch = (local.view(-1, 1) * side + local).flatten()  # (100,) offsets inside the canvas
    for _ in range(shapes):
        kind, (wide, tall) = draw(len(KINDS)), draw(_LARGEST - _SMALLEST + 1, 2)
        down, right = draw(canvas + 1, 2)
        ink = _packed(draw(1 << 24))
        where = down * side + right + patch  # (number, 100)
        inside = templates[kind, wide, tall].squeeze(1)
        paper.scatter_(1, where, torch.where(inside, ink, paper.gather(1, where)))
    return paper.view(number, side, side)


def _packed(colours: Tensor) -> Tensor:
    """Spread 24-bit colours into fields of 16 bits, wide enough for the sum of 16 pixels."""
    return (colours & 255) | (colours & 0xFF00) << 8 | (colours & 0xFF0000) << 16


def _blurred_samples(paper: Tensor, canvas: int, size: tuple[int, int]) -> Tensor:
    """Blur with a 4x4 box and pick the nearest canvas pixel for each pixel of the result.

    Only the picked pixels are blurred, rows first, then columns; all channels in one sum.

    Args:
        paper: (n, side, side) packed colours with a margin.
        canvas: side without the margin.
        size: (height, width) of the result.

    Returns:
        (n, 3, height, width) uint8.
    """
    sums = paper
    for axis, length in ((1, size[0]), (2, size[1])):
        nearest = torch.arange(length, device=paper.device) * canvas // length
        taps = [(nearest + k).clamp(0, canvas - 1) + _MARGIN for k in (-2, -1, 0, 1)]
        picked = [sums.index_select(axis, tap) for tap in taps]
        sums = picked[0] + picked[1] + picked[2] + picked[3]
    channels = torch.stack([sums & 0xFFFF, sums >> 16 & 0xFFFF, sums >> 32], 1)
    return ((channels + 8) // 16).to(torch.uint8)


def labelled_shapes(
    count: int,
    image_shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    num_classes: int = 6,
    noise: float = 0.05,
) -> ImageSet:
    """Draw one large shape a picture, with its kind as the label; classes equally frequent.

    Place, size, both colours and the pixel noise are random. Ink and paper differ by at least
    0.35 of full scale in every channel.

    Args:
        count: pictures to draw.
        image_shape: (channels, height, width).
        generator: where all chance comes from; the pictures are drawn on its device.
        num_classes: kinds in use, 2 to 10, in the order of `KINDS`.
        noise: standard deviation of the Gaussian pixel noise, on the scale [0, 1].

    Raises:
        ArenaError: there are not that many kinds.
    """
    if not 2 <= num_classes <= len(KINDS):
        raise ArenaError(f"expected 2 to {len(KINDS)} classes of shapes, got {num_classes}")
    labels = torch.arange(count, device=generator.device) % num_classes
    labels = labels[torch.randperm(count, generator=generator, device=generator.device)]
    pixels = torch.empty((count, *image_shape), dtype=torch.uint8, device=generator.device)
    for start in range(0, count, _TOY_CHUNK):
        part = slice(start, min(start + _TOY_CHUNK, count))
        coverage = _coverage(labels[part], image_shape[1:], num_classes, generator=generator)
        pixels[part] = _inked(coverage, image_shape[0], noise, generator=generator)
    return ImageSet(pixels, labels, num_classes, "shapes", KINDS[:num_classes])


def _coverage(
    labels: Tensor, size: tuple[int, int], num_classes: int, *, generator: torch.Generator
) -> Tensor:
    """Draw place and size of each shape; return the share of ink, (n, 1, h, w) in [0, 1]."""
    device, fine = labels.device, [side * _OVERSAMPLING for side in size]
    unit = min(fine)
    drawn = torch.rand((3, len(labels), 1), generator=generator, device=device)
    radius = unit * (0.3 + 0.14 * drawn[0])
    axes = []
    for side, chance in zip(fine, drawn[1:], strict=True):
        centre = side / 2 + (chance * 2 - 1) * (side / 2 - radius)
        axes.append((torch.arange(side, device=device) + 0.5 - centre) / radius)  # (n, side)
    down, across = axes[0].unsqueeze(2), axes[1].unsqueeze(1)
    inside = torch.empty((len(labels), *fine), dtype=torch.bool, device=device)
    for kind in range(num_classes):
        mine = (labels == kind).nonzero().squeeze(1)
        inside[mine] = shape_mask(KINDS[kind], across[mine], down[mine])
    ink = inside.to(torch.float32).unsqueeze(1)
    return torch.nn.functional.avg_pool2d(ink, _OVERSAMPLING)


def _inked(coverage: Tensor, channels: int, noise: float, *, generator: torch.Generator) -> Tensor:
    """Colour the pictures and add noise, (n, channels, h, w) uint8."""
    device = coverage.device
    size = (len(coverage), channels, 1, 1)
    paper, gap = (torch.rand(size, generator=generator, device=device) for _ in range(2))
    # the ink goes to the side of the paper's colour that has room, at least 0.35 away
    room = torch.where(paper < 0.5, 1 - paper, -paper)
    ink = paper + torch.sign(room) * (0.35 + gap * (room.abs() - 0.35))
    picture = paper + coverage * (ink - paper)
    shape = picture.shape
    picture = picture + noise * torch.randn(shape, generator=generator, device=device)
    return (picture * 255).round().clamp(0, 255).to(torch.uint8)


def shapes_splits(
    *,
    image_shape: tuple[Annotated[int, Ge(1), Le(16)], Side, Side] = (1, 8, 8),
    num_classes: Annotated[int, Ge(2), Le(10)] = 6,
    train: Pictures = 2000,
    validation: Pictures = 500,
    test: Pictures = 1000,
    noise: Share = 0.05,
    seed: int = 0,
) -> Splits:
    """Draw the toy task; each part has its own random stream.

    Args:
        image_shape: (channels, height, width); a scenario file brings a list.
        num_classes: kinds in use, 2 to 10.
        train: training images.
        validation: validation images.
        test: test images.
        noise: standard deviation of the pixel noise, on the scale [0, 1].
        seed: draws another task of the same kind.

    Raises:
        ArenaError: the shape or the number of classes is impossible.
    """
    if len(image_shape) != 3 or min(*image_shape, train, validation, test) < 1:
        raise ArenaError(
            "expected image_shape (channels, height, width) and at least one image a part, "
            f"got {tuple(image_shape)} and {train}, {validation}, {test}"
        )
    streams, (channels, height, width) = Streams(seed), image_shape
    drawn = [
        labelled_shapes(
            count,
            (channels, height, width),
            streams.torch(f"shapes/{part}"),
            num_classes=num_classes,
            noise=noise,
        )
        for part, count in (("train", train), ("validation", validation), ("test", test))
    ]
    return make_splits("shapes", (drawn[0], drawn[1], drawn[2]))
