"""Draws what the attackers asked: some queries of each meeting, a row for each point in time."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from arena.analysis.episode_data import EpisodeData
from arena.analysis.scoreboard import ScoreRow
from arena.recording.samples import Asked, Pixels, picture
from arena.report.formatting import count_text
from arena.report.plots.style import GREY, WIDTH, Drawing, settings, sheet, short

PANELS = 24
"""With more sheets than this, each attacker is shown against one defender."""

PER_ROW = 3
ROWS, COLUMNS = 4, 8
_LEAST_COLUMNS = 3
_LARGEST = 48
"""Pixels of an image's longer side; larger ones are shrunk to it."""

BYTES = 1_200_000
"""Pixels of the whole figure, before compression: it stands inside the page."""


class Sheet(NamedTuple):
    """What one attacker asked, in one seed, against those defenders where it asked the same."""

    attacker: str
    versus: tuple[str, ...]
    everyone: bool
    sample: Sequence[Asked]

    @property
    def against(self) -> str:
        """The defenders, in a few words."""
        if self.everyone and len(self.versus) > 1:
            return f"each of {len(self.versus)} defenders"
        return ", ".join(self.versus)


def draw_asked(episode_data: EpisodeData) -> Drawing | None:
    """Draw rows of queries for each meeting, early ones on top; None where no sample was kept."""
    sheets = asked_sheets(episode_data)
    every = len(sheets)
    sheets = _chosen(sheets)
    if not sheets:
        return None
    columns = _columns([one.sample for one in sheets])
    pictures = [_picture(one.sample, columns) for one in sheets]
    across = min(len(sheets), PER_ROW)
    tallest = max(len(pixels) / pixels.shape[1] for pixels in pictures)
    height = tallest * min(WIDTH / across - 0.45, 2.8) + 0.5
    with settings():
        figure, axes = sheet(len(sheets), per_row=PER_ROW, height=height)
        for ax, one, pixels in zip(axes, sheets, pictures, strict=True):
            _draw_sheet(ax, one, pixels)
    spared = "" if every == len(sheets) else f" {every - len(sheets)} more are not drawn."
    return Drawing(
        "asked",
        "What the attackers asked",
        "Some of the images asked at several points of the budget, the earliest on top; the "
        "number beside a row is how many queries had been asked by then. One seed each; where an "
        f"attacker asks the same of several defenders, it is shown once.{spared}",
        "Rows of query images. "
        + " ".join(
            f"{one.attacker} against {one.against}: {len(one.sample)} rows, up to "
            f"{count_text(one.sample[-1].queries_used)} queries."
            for one in sheets
        ),
        figure,
    )


def asked_sheets(episode_data: EpisodeData) -> list[Sheet]:
    """Give the sample of each meeting; those of one attacker that are alike are one."""
    groups: dict[tuple[str, bytes], tuple[list[str], Sequence[Asked]]] = {}
    kept = [(row, sample) for row in episode_data.board if (sample := _sample(episode_data, row))]
    for row, sample in kept:
        content = b"".join(asked.images.tobytes() for asked in sample)
        groups.setdefault((row.attack, content), ([], sample))[0].append(row.versus)
    met = Counter(row.attack for row, _ in kept)
    return [
        Sheet(attacker, tuple(versus), len(versus) == met[attacker], _spread(sample))
        for (attacker, _), (versus, sample) in groups.items()
    ]


def _sample(episode_data: EpisodeData, row: ScoreRow) -> Sequence[Asked]:
    """Give the sample of the first seed that has one."""
    found = (episode_data.asked.get(row.episodes[seed].id, ()) for seed in row.seeds)
    return next((sample for sample in found if sample), ())


def _chosen(sheets: Sequence[Sheet]) -> list[Sheet]:
    """Leave as many as there is room for: of each attacker the last, if need be."""
    if len(sheets) <= PANELS:
        return list(sheets)
    return list({one.attacker: one for one in sheets}.values())[:PANELS]


def _draw_sheet(ax: Axes, one: Sheet, pixels: Pixels) -> None:
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="none")
    step = len(pixels) / len(one.sample)
    write = EngFormatter(sep="", places=1)
    labels = [write(asked.queries_used).replace(".0", "") for asked in one.sample]
    ax.set_yticks([step * (line + 0.5) for line in range(len(labels))], labels)
    ax.set_xticks([])
    ax.tick_params(length=0, labelcolor=GREY, labelsize=7)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_anchor("NW")
    ax.set_title(f"{short(one.attacker, 34)}\n/ {short(one.against, 34)}", fontsize=8)


def _spread(sample: Sequence[Asked]) -> list[Asked]:
    """Choose rows evenly over time, the first and the last among them."""
    if len(sample) <= ROWS:
        return list(sample)
    return [sample[round(k * (len(sample) - 1) / (ROWS - 1))] for k in range(ROWS)]


def _columns(samples: Sequence[Sequence[Asked]]) -> int:
    """Tell how many images stand side by side for the figure to stay small."""
    each = sum(_picture(sample, 1).nbytes for sample in samples)
    return max(_LEAST_COLUMNS, min(COLUMNS, BYTES // each))


def _picture(sample: Sequence[Asked], columns: int) -> Pixels:
    """Lay images out on white, a row for each point in time."""
    images = [asked.images for asked in sample]
    gap = max(1, min(images[0].shape[2], _LARGEST) // 16)
    return picture(images, columns=columns, side=_LARGEST, gap=gap, ground=255)
