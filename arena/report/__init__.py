"""The report: some episodes of a log as one HTML file that opens anywhere, offline.

Where to start: `report` (puts the page together), `findings` (the sentences on top).
"""

from arena.report.html import write_report

__all__ = ["write_report"]
