"""Declares what is measured of an episode: tables, reports, frames and replays follow from it."""

from dataclasses import field, fields
from typing import Any, Literal, NamedTuple

Unit = Literal[
    "share", "points", "l1", "macs", "seconds", "images", "count", "price", "number", "digest"
]


UNTRAINED = "clone_untrained"
"""Among the metrics of a checkpoint: 1 where the clone had its initial weights still."""


class Metric(NamedTuple):
    """Declares what a field of `OutcomeRow` measures.

    Attributes:
        label: as a reader sees it.
        unit: "share" is 0 to 1, "points" a difference of two shares, "l1" is 0 to 2, "price" is in
            the scenario's own unit, "number" has none.
        bounds: what its mean cannot leave.
        averaged: it is averaged over seeds, in scoreboards, comparisons and reports.
        heading: of its column in the scoreboard of the report; "" gives it none.
        short: of its column in the scoreboard of the terminal; "" gives it none, and keeps it
            out of what `arena compare` compares where no measure is named.
        reproduced: a replay must reproduce it to the bit.
    """

    label: str
    unit: Unit
    bounds: tuple[float, float] = (0, float("inf"))
    averaged: bool = True
    heading: str = ""
    short: str = ""
    reproduced: bool = True


def metric(label: str, unit: Unit, **options: Any) -> Any:  # Any: the value of a field, as typed
    """Declare a field of `OutcomeRow`; the options are those of `Metric`."""
    if unit in ("share", "l1"):
        options.setdefault("bounds", (0, 1) if unit == "share" else (0, 2))
    return field(default=None, metadata={"metric": Metric(label, unit, **options)})


def metrics_of(row: type[object]) -> dict[str, Metric]:
    """Return the metrics that a row class declares, by name, in their order."""
    # the dataclass protocol is not a type that can be named
    declared = fields(row)  # type: ignore[arg-type]
    return {one.name: one.metadata["metric"] for one in declared if "metric" in one.metadata}
