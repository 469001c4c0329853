"""Draws an episode's sample queries in a terminal: two pixels of a picture in one character."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from arena.log import artifacts

if TYPE_CHECKING:
    import numpy as np
    from rich.text import Text

    from arena.log.reader import LogReader
    from arena.log.rows import ArtifactRow, EpisodeRow

KIND = "sample-queries"
SHOWN = 8
"""Queries of a row that are drawn."""

SIDE = 8
"""Pixels to which each of them is scaled."""


class Strip(NamedTuple):
    """What an attacker asked around one checkpoint: (SIDE, width, 3) uint8."""

    used: int
    pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"


class Samples(NamedTuple):
    """The sample queries of an episode: where their pictures are, and what is on them."""

    paths: Sequence[Path] = ()
    strips: Sequence[Strip] = ()

    def until(self, used: int) -> Strip | None:
        """Give the latest queries that were kept until so many were used; None before any were."""
        return next((strip for strip in reversed(self.strips) if strip.used <= used), None)


def samples(log: "LogReader", row: "EpisodeRow") -> Samples:
    """Read the sample queries that were kept of an episode; what cannot be read is left out."""
    paths: list[Path] = []
    strips: list[Strip] = []
    for artifact in log.artifacts(row.id):
        path = artifacts.inside(log.where, row.id, artifact.path)
        if artifact.kind != KIND or path is None:
            continue
        paths.append(path)
        try:
            strips += _strips(path, artifact)
        except (OSError, ValueError):  # not there, or no picture any more: 'arena log check' says
            continue
    return Samples(paths, sorted(strips, key=lambda strip: strip.used))


def _strips(path: Path, artifact: "ArtifactRow") -> list[Strip]:
    """Cut a picture, as `arena.recording.recorded_oracle.grid` lays it out, into its rows."""
    import numpy as np
    from PIL import Image

    marks = artifact.meta.get("queries_used")
    columns = artifact.meta.get("columns")
    if not isinstance(marks, list) or not marks or not isinstance(columns, int):
        return []
    with Image.open(path) as picture:
        colours = picture.convert("RGB")
    width, height = (colours.width - 1) // columns, (colours.height - 1) // len(marks)
    gap = np.zeros((SIDE, 1, 3), dtype=np.uint8)
    strips = []
    for line, used in enumerate(marks):
        cells = []
        for column in range(min(SHOWN, columns)):
            left, top = column * width + 1, line * height + 1
            cell = colours.crop((left, top, left + width - 1, top + height - 1))
            cells += [np.asarray(cell.resize((SIDE, SIDE), Image.Resampling.BOX)), gap]
        strips.append(Strip(int(used), np.concatenate(cells, axis=1)))
    return strips


def drawn(strip: Strip) -> "Text":
    """Draw a row of queries: the upper half of a character is one pixel, the lower the next."""
    from rich.style import Style
    from rich.text import Text

    text = Text(no_wrap=True, overflow="crop")
    for top in range(0, SIDE, 2):
        text.append("asked   " if top == 0 else "        ")
        for upper, lower in zip(strip.pixels[top], strip.pixels[top + 1], strict=True):
            text.append("▀", Style.parse(f"{_colour(upper)} on {_colour(lower)}"))
        text.append("\n" if top + 2 < SIDE else "")
    return text


def _colour(pixel: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*map(int, pixel))
