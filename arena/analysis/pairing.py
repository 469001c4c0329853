"""Compares two players, scenarios or runs on the seeds and settings that they share.

A difference is taken between two episodes of one seed whose settings are otherwise the same, so
that victim, images and chance are the same on both sides. What cannot be paired so is left out and
named, never averaged in.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from arena.analysis.contrasts import DEFAULT_MEASURES, Contrast, contrasts_of
from arena.analysis.games import Settings
from arena.analysis.image_sampling import images_by_data
from arena.analysis.metrics import measures_of
from arena.analysis.paired_tests import holm
from arena.analysis.sides import (
    SIDES,
    By,
    differences,
    is_named,
    name_of,
    parted,
    require_setting,
    titles_of,
    who_meets,
)
from arena.log.rows import EpisodeRow
from envs.errors import ArenaError, ScenarioError, UnknownName


@dataclass(frozen=True, slots=True)
class Meeting:
    """Both sides under the same settings.

    Attributes:
        title: what they share, for people ("against dnf").
        settings: what differs between them besides what is compared, as "path: first | second".
        contrasts: one for each measure that both sides have.
    """

    title: str
    settings: tuple[str, ...]
    contrasts: tuple[Contrast, ...]

    def as_dict(self) -> dict[str, object]:
        """Give plain values."""
        told = [contrast.as_dict() for contrast in self.contrasts]
        return {"title": self.title, "settings": list(self.settings), "contrasts": told}


@dataclass(frozen=True, slots=True)
class Pairing:
    """Everything that two sides can be compared in.

    Attributes:
        first, second: their names.
        by: what they are.
        meetings: one for each set of settings they share.
        left_out: a line for each thing that has no counterpart.
    """

    first: str
    second: str
    by: By
    meetings: tuple[Meeting, ...]
    left_out: tuple[str, ...]

    @property
    def sides(self) -> str:
        """Say what is taken from what."""
        prefix = "" if self.by in SIDES else f"{self.by}: "
        return f"{prefix}{self.first} minus {self.second}"

    @property
    def tests(self) -> int:
        """How many p values there are."""
        return sum(len(meeting.contrasts) for meeting in self.meetings)

    def as_dict(self) -> dict[str, object]:
        """Give plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "by": self.by,
            "meetings": [meeting.as_dict() for meeting in self.meetings],
            "left_out": list(self.left_out),
        }


class _Plays(NamedTuple):
    """One side under one set of settings: what is its own, and its newest play of each seed."""

    own: Settings
    by_seed: dict[int, EpisodeRow]


def pair(
    episodes: Iterable[EpisodeRow],
    first: str,
    second: str,
    *,
    by: By | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    half_width: float | None = None,
) -> Pairing:
    """Compare two names of a kind on what they share.

    Args:
        episodes: with their plans; only successful plays count, of each seed the newest.
        first: name of an attacker, a defender or a scenario, the id of a run, or the value of the
            setting that is compared.
        second: another one.
        by: which of these they are; found out if absent, unless it is a setting.
        measures: names that `arena.analysis.metrics.measure_of` knows.
        half_width: how well each difference should be known, in the measure's unit; one point, or
            a twentieth of the first side's mean where the measure is no share.

    Raises:
        UnknownName: nobody has that name.
        ScenarioError: it is not clear what is meant.
        ArenaError: nothing can be compared; the message says what stands between them.
    """
    rows = [row for row in episodes if row.status == "success" and row.kind == "play"]
    known = measures_of(rows)
    for name in measures:
        if name not in known:
            raise UnknownName("measure", name, known)
    if first == second:
        raise ScenarioError(f"expected two different names to compare, got '{first}' twice")
    by = by or _kind_of(rows, first, second)
    if by not in SIDES:
        require_setting(rows, by)
    sides = [_side(rows, name, by=by) for name in (first, second)]
    meetings, left_out, images = [], [], images_by_data(rows)
    titles = titles_of(dict.fromkeys([*sides[0], *sides[1]]), by)
    for key, title in titles.items():
        one, other = sides[0].get(key), sides[1].get(key)
        if one is None or other is None:
            having = first if other is None else second
            left_out.append(f"{title}: only {having} was played with these settings")
            continue
        shared = one.by_seed.keys() & other.by_seed.keys()
        alone = (one.by_seed.keys() | other.by_seed.keys()) - shared
        if alone:
            left_out.append(f"{title}: {_seeds(alone)} played by one of them alone")
        if shared:
            contrasts = contrasts_of(
                one.by_seed,
                other.by_seed,
                measures=measures,
                half_width=half_width,
                images=images,
            )
            differing = differences(one.own, other.own) if by in ("scenario", "run") else ()
            meetings.append(Meeting(title, differing, contrasts))
    if not meetings:
        raise ArenaError(_why_not(sides, first, second, by=by))
    if len(left_out) > 20:
        left_out = [*left_out[:20], f"and {len(left_out) - 20} more"]
    return Pairing(first, second, by, _adjusted(meetings), tuple(left_out))


def _adjusted(meetings: Sequence[Meeting]) -> tuple[Meeting, ...]:
    """Adjust the p values of all meetings together: a reader sees them in one answer."""
    raw = [one.paired.test.p for meeting in meetings for one in meeting.contrasts]
    adjusted = iter(holm(raw))
    return tuple(
        replace(
            meeting,
            contrasts=tuple(replace(one, adjusted_p=next(adjusted)) for one in meeting.contrasts),
        )
        for meeting in meetings
    )


def _kind_of(rows: Sequence[EpisodeRow], first: str, second: str) -> By:
    """Find out of what kind both names are."""
    kinds: list[By] = [
        by
        for by in SIDES
        if all(any(is_named(row, name, by) for row in rows) for name in (first, second))
    ]
    if len(kinds) > 1:
        raise ScenarioError(f"'{first}' and '{second}' are names of {' and of '.join(kinds)}s; "
                            f"say which with --by")  # fmt: skip
    if kinds:
        return kinds[0]
    known = {name_of(row, by) for row in rows for by in SIDES}
    for name in (first, second):
        if not any(is_named(row, name, by) for row in rows for by in SIDES):
            raise UnknownName("successful play by or of anything", name, known)
    raise ScenarioError(f"'{first}' and '{second}' are not of one kind; expected two attackers, "
                        f"two defenders, two scenarios or two runs")  # fmt: skip


def _side(rows: Iterable[EpisodeRow], name: str, *, by: By) -> dict[str, _Plays]:
    """Sort the plays of a name by what they share with others'.

    Raises:
        UnknownName: there are none.
        ScenarioError: the name was played with several settings of its own.
    """
    rows = list(rows)
    mine = sorted((row for row in rows if is_named(row, name, by)), key=lambda row: row.started)
    if not mine:
        raise UnknownName(f"{by} with a successful play", name, {name_of(row, by) for row in rows})
    groups: dict[str, dict[str, _Plays]] = defaultdict(dict)
    for row in mine:
        key, own = parted(row, by)
        text = json.dumps(own, sort_keys=True, default=str)
        groups[key].setdefault(text, _Plays(own, {})).by_seed[row.seed] = row
    side = {}
    for key, variants in groups.items():
        played = list(variants.values())
        if len(played) > 1:
            found = "; ".join(differences(played[0].own, played[1].own)[:3])
            raise ScenarioError(f"'{name}' was played with several settings of its own ({found}); "
                                f"narrow the episodes down, by --where, --scenario or "
                                f"--run")  # fmt: skip
        side[key] = played[0]
    return side


def _why_not(sides: Sequence[Mapping[str, _Plays]], first: str, second: str, *, by: By) -> str:
    """Say what stands between two sides that share no episode: seeds, or the nearest settings."""
    for key in sides[0].keys() & sides[1].keys():
        one, other = (_seeds(side[key].by_seed) for side in sides)
        where = who_meets(json.loads(key), by)
        return (
            f"{first} and {second} share no seed {where}: {one} and {other}; "
            f"play both on the same with --seeds"
        )
    gaps = [differences(json.loads(a), json.loads(b)) for a in sides[0] for b in sides[1]]
    nearest = min(gaps, key=len)
    more = f" and {len(nearest) - 4} more" if len(nearest) > 4 else ""
    return (
        f"{first} and {second} cannot be compared: they were never played with the same settings; "
        f"nearest: {'; '.join(nearest[:4])}{more}"
    )


def _seeds(seeds: Iterable[int]) -> str:
    listed = sorted(seeds)
    shown = ", ".join(map(str, listed[:8])) + (", ..." if len(listed) > 8 else "")
    return f"{'seed' if len(listed) == 1 else 'seeds'} {shown}"
