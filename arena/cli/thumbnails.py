"""Draws an episode's sample queries in a terminal: two pixels of a picture in one character."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

    from arena.recording.samples import Asked

SHOWN = 8
"""Queries of a sample that are drawn."""

SIDE = 8
"""Pixels to which each of them is shrunk."""


def latest(samples: "Sequence[Asked]", used: int) -> "Asked | None":
    """Give the last sample taken until so many queries were used; None before the first."""
    return next((asked for asked in reversed(samples) if asked.queries_used <= used), None)


def drawn(asked: "Asked") -> "Text":
    """Draw a row of queries: the upper half of a character is one pixel, the lower the next."""
    import numpy as np
    from rich.style import Style
    from rich.text import Text

    from arena.recording.samples import picture

    pixels = picture([asked.images], columns=SHOWN, side=SIDE, gap=1, ground=0)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=2)
    text = Text(no_wrap=True, overflow="crop")
    # the last row is a gap, which stands below an odd number of rows alone
    for top in range(0, len(pixels) - 1, 2):
        text.append("asked   " if top == 0 else "\n        ")
        for upper, lower in zip(pixels[top].tolist(), pixels[top + 1].tolist(), strict=True):
            text.append("▀", Style.parse(f"{_colour(upper)} on {_colour(lower)}"))
    return text


def _colour(pixel: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel)
