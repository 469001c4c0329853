"""The table `[sweep]` of a scenario file: at which settings it is played."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from arena.log.outcome import METRICS
from arena.registry.messages import MESSAGE
from arena.registry.strict_types import NUMBER, WHOLE
from arena.scenario.schema_parts import Table, Yes
from arena.scenario.settings import HOW_ASKED, HOW_PLAYED, ONLY_SHOWN

# `Any` in this file: values as TOML gives them.

MOST_POINTS = 10_000
"""Of one sweep; a larger one is played in parts."""

_ONCE = ("version", "name", "description", "tags", "extends", "seeds", "sweep")
_NO_SETTINGS = (
    *_ONCE, *HOW_PLAYED, *(f"victim.{name}" for name in (*HOW_ASKED, *ONLY_SHOWN)),
)  # fmt: skip
"""Keys that make no other game, or that a file has once."""


class RangeSpec(Table):
    """Numbers between two ends, from which points are drawn."""

    low: Annotated[float, NUMBER]
    high: Annotated[float, NUMBER]
    log: Yes = False
    """Draw the logarithm evenly."""
    whole: Yes = False
    """Draw whole numbers, both ends among them."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not -math.inf < self.low < self.high < math.inf or (self.log and self.low <= 0):
            raise PydanticCustomError(
                MESSAGE,
                "expected low below high, and above 0 with log = true; got {low} and {high}",
                {"low": self.low, "high": self.high},
            )
        if self.whole and math.ceil(self.low) > math.floor(self.high):
            line = "expected a whole number between {low} and {high}; there is none"
            raise PydanticCustomError(MESSAGE, line, {"low": self.low, "high": self.high})
        return self

    def draw(self, chance: random.Random) -> float | int:
        """Draw a number."""
        if self.log:
            return self.readable(math.exp(chance.uniform(math.log(self.low), math.log(self.high))))
        return self.readable(chance.uniform(self.low, self.high))

    def readable(self, drawn: float) -> float | int:
        """Return a number of the range as people write it."""
        if not self.whole:
            return min(max(float(f"{drawn:.{self._digits}g}"), self.low), self.high)
        return min(max(round(drawn), math.ceil(self.low)), math.floor(self.high))

    @property
    def _digits(self) -> int:
        """Digits that numbers of the range are written with; its ends may have more.

        Three, as people read them; more where those would leave fewer than ten numbers to draw.
        """
        largest = max(abs(self.low), abs(self.high))
        return next(
            digits
            for digits in range(3, 18)
            if digits == 17
            or 10 ** (math.floor(math.log10(largest)) + 1 - digits) <= (self.high - self.low) / 10
        )


def _dotted(value: Any) -> Any:
    """Take `over.threat.budget = [...]` for `over."threat.budget" = [...]`."""
    if not isinstance(value, Mapping):
        return value
    flat: dict[str, Any] = {}
    for key, one in value.items():
        inside = _dotted(one) if isinstance(one, Mapping) and "low" not in one else None
        if inside:
            flat |= {f"{key}.{inner}": each for inner, each in inside.items()}
        else:
            flat[key] = one
    return flat


def _refuse_twins(key: str, values: Sequence[Any]) -> None:
    """Refuse one value twice; compared as such, because lists and tables are values too."""
    for place, value in enumerate(values):
        if value in values[:place]:
            line = "over.{key}: {value} is there twice"
            raise PydanticCustomError(MESSAGE, line, {"key": key, "value": repr(value)})


def _kind(value: object) -> str:
    return "range" if isinstance(value, Mapping | RangeSpec) else "list"


# told apart by what was written, so that a fault of one is not told of both
Values = Annotated[
    Annotated[tuple[Any, ...], Field(min_length=1), Tag("list")]
    | Annotated[RangeSpec, Tag("range")],
    Discriminator(_kind),
]


class SearchSpec(Table):
    """What a search looks for, where its next points follow from the results of earlier ones."""

    by: Literal["tpe"] = "tpe"
    """Optuna's tree-structured Parzen estimator; it needs the extra `optuna`."""
    minimise: str | None = None
    """A measure of an episode, such as "clone_accuracy", or a name of `[[metrics]]`. Of each
    meeting its mean over seeds; of several meetings the one that is worst for the search counts."""
    maximise: str | None = None
    """In place of `minimise`."""
    at_least: dict[str, Annotated[float, NUMBER]] = Field({})
    """Measures that every meeting of a point must have at least, such as
    `{ served_accuracy = 0.9 }`; a point below is the worse the further below it is."""
    together: Annotated[int, Field(ge=1, le=1000), WHOLE] = 1
    """Points that are chosen at once, before any of them is played: as many as workers can use."""

    @model_validator(mode="after")
    def _looks_for_one_thing(self) -> Self:
        if (self.minimise is None) == (self.maximise is None):
            line = "expected either minimise or maximise, a measure such as clone_accuracy"
            raise PydanticCustomError(MESSAGE, line)
        return self

    @property
    def measures(self) -> tuple[str, ...]:
        """What is measured of each point; the aim comes first."""
        return (self.minimise or self.maximise or "", *self.at_least)


class SweepSpec(Table):
    """Settings at which the scenario is played, each a game of its own."""

    over: Annotated[dict[str, Values], Field(min_length=1), BeforeValidator(_dotted)]
    """Keys as `--set` takes them, such as "threat.budget", each with a list of values, or with
    `{ low = ..., high = ... }` (and `log`, `whole`) from which `draw` draws."""
    draw: Annotated[int, Field(ge=1, le=MOST_POINTS), WHOLE] | None = None
    """So many points, drawn at random from lists and ranges; all combinations where absent."""
    seed: Annotated[int, Field(ge=0, lt=2**63), WHOLE] = 0
    """Of what is drawn."""
    search: SearchSpec | None = None
    """Choose the points that `draw` counts by the results of those before, and not at random."""

    @model_validator(mode="after")
    def _playable(self) -> Self:
        for key, values in self.over.items():
            plain = ".".join(step.strip() for step in key.split("."))
            if any(f"{plain}.".startswith(f"{one}.") for one in _NO_SETTINGS):
                line = "over.{key}: expected a key that makes another game, such as threat.budget"
                raise PydanticCustomError(MESSAGE, line, {"key": key})
            if not isinstance(values, RangeSpec):
                _refuse_twins(key, values)
            elif self.draw is None:
                line = "over.{key}: a range has no end of values; add draw, or give a list"
                raise PydanticCustomError(MESSAGE, line, {"key": key})
        if self.search is not None and self.draw is None:
            line = "draw: missing; a search needs the number of points that it may play"
            raise PydanticCustomError(MESSAGE, line)
        if self.size > MOST_POINTS:
            line = "expected at most {most} combinations, got {size}; draw some of them"
            raise PydanticCustomError(MESSAGE, line, {"most": MOST_POINTS, "size": self.size})
        return self

    @property
    def size(self) -> int:
        """How many points there are, at most."""
        if self.draw is not None:
            return self.draw
        return math.prod(len(one) for one in self.over.values() if not isinstance(one, RangeSpec))

    def points(self) -> Iterator[dict[str, Any]]:
        """Give the values of each point by key; the same file gives the same points.

        The points of a search are not known before it is played: it gives so many that each value
        of a list, and both ends of a range, are among them.
        """
        if self.search is not None:
            ends = [_ends(one) for one in self.over.values()]
            for place in range(max(map(len, ends))):
                yield {key: one[place % len(one)] for key, one in zip(self.over, ends, strict=True)}
            return
        if self.draw is None:
            lists = [one for one in self.over.values() if not isinstance(one, RangeSpec)]
            for values in itertools.product(*lists):
                yield dict(zip(self.over, values, strict=True))
            return
        chance = random.Random(self.seed)
        for _ in range(self.draw):
            yield {
                key: one.draw(chance) if isinstance(one, RangeSpec) else chance.choice(one)
                for key, one in self.over.items()
            }


def _ends(values: tuple[Any, ...] | RangeSpec) -> tuple[Any, ...]:
    if not isinstance(values, RangeSpec):
        return values
    return values.readable(values.low), values.readable(values.high)


def refuse_unmeasured(sweep: SweepSpec, own: Sequence[str]) -> None:
    """Refuse a search for what no episode measures; `own` are the names of `[[metrics]]`."""
    known = [name for name, one in METRICS.items() if one.unit != "digest"] + [*own]
    for name in () if sweep.search is None else sweep.search.measures:
        if name not in known:
            line = "sweep.search: no measure is named '{name}'; expected one of {known}"
            raise PydanticCustomError(MESSAGE, line, {"name": name, "known": ", ".join(known)})
