"""Rows of episodes that no log holds, for statistics over many of them."""

from datetime import UTC, datetime

import pytest

from arena.analysis.scoreboard import scoreboard
from arena.log.rows import EpisodeRow

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def episode(attacker="dfme", defender="dnf", seed=0, *, num_classes=10, plan=None, **columns):
    """Make the row of a successful play; what is not named was not measured."""
    fixed = dict.fromkeys(("finished", "wall_seconds", "error", "exit_names", "test_overlap",
                           "clone_normalisation"))  # fmt: skip
    return EpisodeRow(
        id=f"{attacker}-{defender}-{seed}", run_id="r", scenario_name="s", plan_hash="h",
        plan=plan or {"seed": seed}, seed=seed, attacker=attacker, defender=defender,
        victim="v", clone="c", data="d", budget=100, num_classes=num_classes, status="success",
        started=BEGAN, heartbeat=BEGAN, pid=1, host="h", process_started="p", **fixed, **columns,
    )  # fmt: skip


@pytest.fixture(scope="session")
def board():
    """Make a scoreboard of one attacker out of right answers by defender and seed.

    `images` were scored; other columns are the same for all episodes.
    """

    def make(right, images, **columns):
        return scoreboard(
            episode(defender=name, seed=seed, clone_accuracy=int(count) / images, **columns)
            for name, counts in right.items()
            for seed, count in enumerate(counts)
        )

    return make
