"""Scoreboards of rows that no log holds, for statistics over many of them."""

import pytest

from arena.analysis.scoreboard import scoreboard


@pytest.fixture(scope="session")
def board(episode_row):
    """Make a scoreboard of one attacker out of right answers by defender and seed.

    `images` were scored; other columns are the same for all episodes.
    """

    def make(right, images, **columns):
        return scoreboard(
            episode_row(defender=name, seed=seed, clone_accuracy=int(count) / images, **columns)
            for name, counts in right.items()
            for seed, count in enumerate(counts)
        )

    return make
