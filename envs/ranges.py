"""Types of parameters with their ranges, for annotations.

A scenario's values are held against the annotations of what they are for, before anything is
trained: `batch: Count = 64` refuses 0 there, and says what was expected.
"""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

Count = Annotated[int, Ge(1), Le(1_000_000_000)]
"""At least one, and no more than fits into any memory or time."""

Natural = Annotated[int, Ge(0), Le(1_000_000_000)]
"""None, or some."""

Share = Annotated[float, Ge(0), Le(1)]
"""A part of a whole."""

Factor = Annotated[float, Ge(0), Lt(1)]
"""What a running value keeps of itself: a momentum, an average."""

Positive = Annotated[float, Gt(0)]
"""A rate, a width, a temperature: above 0."""

Amount = Annotated[float, Ge(0)]
"""A price, a weight, a deviation: 0 takes it away."""

Side = Annotated[int, Ge(1), Le(2048)]
"""Pixels along one side of an image."""

Pictures = Annotated[int, Ge(1), Le(10_000_000)]
"""Images that are drawn or taken; more of them fit into no memory."""
