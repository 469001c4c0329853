"""The figures of a log: one file for each, `write_figures` draws them all.

Where to start: `style` (palette and saving), then `curves`.
"""

from arena.report.plots.figures import FIGURES, write_figures

__all__ = ["FIGURES", "write_figures"]
