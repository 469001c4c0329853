"""Reads the episodes of the defence suite from a log, meeting by meeting and seed by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from arena.log.episode_filter import EpisodeFilter
from arena.log.rows import EpisodeRow
from arena.log.store import Log
from arena.scenario import Scenario, load
from benchmarks.pages import ROOT

SCENARIO = ROOT / "scenarios" / "defence_suite.toml"
CONTROL = "undefended"
"""Whom every attacker meets, and whose clones stand where the scenario spares one."""

SERVED = tuple(
    f"{kind}_{name}"
    for kind in ("attack", "benign", "benign_ood")
    for name in ("distortion_mean", "distortion_p95", "agreement", "sampled")
)
"""What was measured on the answers of the game, at its last checkpoint."""


@dataclass(frozen=True)
class Episode:
    """One episode, and what was measured on the answers that were served in it."""

    row: EpisodeRow
    served: Mapping[str, float]

    def get(self, name: str) -> float | None:
        """Give a figure by its name; None where it was not taken."""
        value = self.served.get(name) if name in SERVED else getattr(self.row, name)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Suite:
    """The scenario and the newest episode of each of its meetings.

    Attributes:
        scenario: the suite.
        episodes: in its order.
        missing: how many of its episodes the log has not.
        hardening: seconds that a defender's first hardening took, by its name and by seed; later
            ones come out of the cache, and so may those of all `episodes`.
    """

    scenario: Scenario
    episodes: Sequence[Episode]
    missing: int
    hardening: Mapping[str, Mapping[int, float]]

    def of(self, defender: str, attacker: str | None = None) -> list[Episode]:
        """Give the episodes of a defender, or of one meeting."""
        return [
            one
            for one in self.episodes
            if one.row.defender == defender and attacker in (None, one.row.attacker)
        ]

    def clones(self, defender: str, attacker: str) -> dict[int, float]:
        """Give the clone's accuracy by seed; of the undefended victim where spared."""
        asked = CONTROL if self.spared(defender, attacker) else defender
        found = {one.row.seed: one.get("clone_accuracy") for one in self.of(asked, attacker)}
        return {seed: value for seed, value in found.items() if value is not None}

    def worst_case(self, defender: str) -> dict[int, float]:
        """Give the best clone of each seed over all attackers."""
        worst: dict[int, float] = {}
        for attacker in self.scenario.attackers:
            for seed, clone in self.clones(defender, attacker.name).items():
                worst[seed] = max(clone, worst.get(seed, 0.0))
        return worst

    def by_seed(self, defender: str, figure: str) -> dict[int, float]:
        """Average a figure over the attackers that meet everybody, seed by seed."""
        values: dict[int, list[float]] = {}
        for one in self.everywhere(defender):
            if (value := one.get(figure)) is not None:
                values.setdefault(one.row.seed, []).append(value)
        return {seed: fmean(mine) for seed, mine in values.items()}

    def everywhere(self, defender: str) -> list[Episode]:
        """Give a defender's episodes against attackers that meet everybody: fair to compare."""
        common = [one.name for one in self.scenario.attackers if not one.against and not one.spares]
        return [one for one in self.of(defender) if one.row.attacker in common]

    def spared(self, defender: str, attacker: str) -> bool:
        """Tell whether the scenario takes the undefended victim for this defender."""
        return any(
            one.name == attacker and defender in one.spares for one in self.scenario.attackers
        )


def read(log_path: str) -> Suite:
    """Read the suite's episodes from a log."""
    scenario = load(SCENARIO)
    plans = [plan.hash for plan in scenario.plans()]
    newest: dict[str, Episode] = {}
    with Log.open(log_path) as log:
        rows = log.episodes(EpisodeFilter(status="success", kind="play", newest_first=False))
        hardening: dict[str, dict[int, float]] = {}
        for row in rows:
            if row.plan_hash in plans:
                newest[row.plan_hash] = Episode(row, _served(log, row.id))
            if row.scenario_name == scenario.name and row.seed in scenario.seeds:
                mine = hardening.setdefault(row.defender, {})
                mine[row.seed] = max(mine.get(row.seed, 0.0), row.harden_seconds or 0.0)
    ordered = [newest[name] for name in plans if name in newest]
    return Suite(scenario, ordered, len(plans) - len(ordered), hardening)


def _served(log: Log, id: str) -> dict[str, float]:
    """Read what was measured on served answers, at the last checkpoint."""
    points = log.checkpoints(id)
    metrics = points[-1].metrics if points else {}
    return {
        name: float(value) for name in SERVED if isinstance(value := metrics.get(name), int | float)
    }
