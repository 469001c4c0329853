"""Tells what each defence of the suite takes from attackers and users, seed by seed."""

from collections.abc import Mapping
from statistics import pstdev

from scipy.stats import ttest_1samp

from arena.analysis.intervals import mean_interval
from arena.analysis.paired_tests import holm
from benchmarks.by_seed import minus
from benchmarks.defence_suite import CONTROL, Suite
from benchmarks.pages import percent, table

HEAD = ("points less than undefended", "worst case", "DFME", "Knockoff soft", "Knockoff hard",
        "served accuracy")  # fmt: skip
LEVEL = 0.05
_ALIKE = 1e-9  # what rounding makes of differences that are all the same


def differences(suite: Suite) -> str:
    """Write undefended less each defender: means over seeds and 95 % t intervals, in points.

    A star marks differences of the worst case that a paired t test shows after Holm's correction
    for all defenders.
    """
    names = [one.name for one in suite.scenario.defenders if one.name != CONTROL]
    worst = {name: minus(suite.worst_case(CONTROL), suite.worst_case(name)) for name in names}
    stars = shown(worst)
    lines = []
    for name in names:
        cells = [_cell(worst[name]) + ("*" if name in stars else "")]
        for attacker in ("dfme", "knockoff", "knockoff-hard"):
            sides = (suite.clones(side, attacker) for side in (CONTROL, name))
            cells.append("—" if suite.spared(name, attacker) else _cell(minus(*sides)))
        served = (suite.by_seed(side, "served_accuracy") for side in (CONTROL, name))
        lines.append([name, *cells, _cell(minus(*served))])
    return table(HEAD, lines)


def shown(worst: Mapping[str, list[float]]) -> set[str]:
    """Name the defenders whose difference a test shows; alike differences have none."""
    found = {
        name: ttest_1samp(values, 0).pvalue
        for name, values in worst.items()
        if len(values) > 1 and pstdev(values) > _ALIKE
    }
    others = [1.0] * (len(worst) - len(found))  # they count among those that are corrected for
    corrected = holm([*map(float, found.values()), *others])
    return {name for name, p in zip(found, corrected, strict=False) if p <= LEVEL}


def _cell(values: list[float]) -> str:
    return percent(mean_interval(values)) if values else "—"
