"""How every figure looks: one palette, markers and dashes that survive grey, no global state."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from arena.analysis.intervals import Interval

# Okabe and Ito 2008, "Color Universal Design", without the yellow that white paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (6, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")
GREY = "#595959"
PALE = "#B0B0B0"

FEW_SEEDS = 5
"""Up to so many seeds each is a dot of its own."""

WIDTH = 7.2
"""Inches of every figure: the text width of a page."""

SVG_DPI = 72
"""Points of an inch: what matplotlib writes SVG in."""

SETTINGS: Any = {  # Any: matplotlib types its settings by three hundred literals
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws alike
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.fonttype": "path",
    "svg.hashsalt": "arena",  # ids depend on the content alone
    "savefig.dpi": 160,
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure with the words that go beside it.

    Attributes:
        name: of its file, without the ending.
        title: what it shows, in a few words.
        caption: how to read it.
        alt: what it shows, for those who cannot see it.
        points: what is drawn, as the rows of a table under a heading; few figures have them.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    points: Sequence[Sequence[object]] = ()


class Pen(NamedTuple):
    """Colour, dashes and marker of one line; no two of the first forty are alike."""

    colour: str
    dashes: Any  # Any: a name or an (offset, on-off) pair
    marker: str


def pen(index: int) -> Pen:
    """Give the pen of the line with this index."""
    return Pen(
        COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)]
    )


@contextmanager
def settings() -> Iterator[None]:
    """Draw and save inside this block with our settings; the caller's come back after it."""
    with mpl.rc_context(SETTINGS):
        yield


def sheet(panels: int, *, per_row: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """Start a figure of so many panels; `height` is in inches for each row of them.

    `options` go to matplotlib's `Figure.subplots`.
    """
    columns = min(panels, per_row)
    rows = -(-panels // columns)
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    axes = list(grid.flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def legend_below(figure: Figure, labels: Mapping[str, Artist]) -> None:
    """Put one legend for all panels beneath them, and make the figure taller by it."""
    columns = 3 if max(map(len, labels)) <= 18 else 2 if max(map(len, labels)) <= 42 else 1
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.19 * rows)
    figure.legend(
        labels.values(), labels.keys(), loc="outside lower center", ncols=columns, handlelength=3.2
    )


def named_in(axes: Sequence[Axes]) -> dict[str, Artist]:
    """Collect what the panels call their lines and bars, each name once."""
    return {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }


def outer_labels(axes: list[Axes], *, per_row: int) -> None:
    """Keep the axis labels of the panels that have none beside or beneath them."""
    columns = min(len(axes), per_row)
    for index, ax in enumerate(axes):
        first, lowest = index % columns == 0, index + columns >= len(axes)
        ax.tick_params(labelleft=first, labelbottom=lowest)
        if not first:
            ax.set_ylabel("")
        if not lowest:
            ax.set_xlabel("")


def whiskers(scores: Sequence[Interval]) -> list[list[float]] | None:
    """Give the lengths of the whiskers below and above each mean; None if any is unknown."""
    ends = [(score.mean, score.low, score.high) for score in scores]
    known = [(mean, low, high) for mean, low, high in ends if low is not None and high is not None]
    if len(known) < len(ends):
        return None
    # rounding may put a mean outside its own cut interval by a hair
    below = [max(0.0, mean - low) for mean, low, _ in known]
    return [below, [max(0.0, high - mean) for mean, _, high in known]]


def short(text: str, length: int = 26) -> str:
    """Cut a name to what a figure has room for; tables have the whole."""
    plain = " ".join(text.split())
    if len(plain) <= length:
        return plain
    tail = length // 3  # names of a family differ at their ends
    return f"{plain[: length - tail - 1]}…{plain[-tail:]}"


def shortened(names: Iterable[str], length: int = 26) -> dict[str, str]:
    """Cut names to what a figure has room for, and keep them apart."""
    cut: dict[str, str] = {}
    for name in dict.fromkeys(names):
        label, number = short(name, length), 2
        while label in cut.values():
            label, number = f"{short(name, length)} #{number}", number + 1
        cut[name] = label
    return cut


PERCENT = FuncFormatter(lambda share, place: f"{100 * share:.4g}%")
"""Writes shares at the ticks of an axis, with as many digits as they need."""


def percent(share: float, digits: int = 1) -> str:
    """Write a share of 1 as a percentage."""
    return f"{100 * share:.{digits}f}%"


def save(drawing: Drawing, path: Path) -> None:
    """Write a figure in the format of the path's ending; the same bytes for the same data."""
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    with settings(), path.open("wb") as file:
        drawing.figure.savefig(file, format=path.suffix[1:], metadata=metadata)


@contextmanager
def _laid_out(figure: Figure) -> Iterator[None]:
    """Arrange a figure for SVG; inside this block savefig does not draw it twice to that end."""
    engine, dpi = figure.get_layout_engine(), figure.dpi
    FigureCanvasSVG(figure)  # names are as long as this format draws them
    figure.dpi = SVG_DPI
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)
    try:
        yield
    finally:
        figure.dpi = dpi
        figure.set_layout_engine(engine)


def inline_svg(drawing: Drawing, *, prefix: str) -> str:
    """Give a figure as an <svg> element that can stand in an HTML page beside others.

    Without comments (they hold names), metadata and namespaces (HTML needs none); its ids begin
    with `prefix`, which no other figure of the page may have.
    """
    text = io.StringIO()
    with settings(), _laid_out(drawing.figure):
        drawing.figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    # the page sets the size; the view box keeps the proportions
    svg = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", svg)
    return re.sub(r"\n\s*\n", "\n", svg)
