"""The headline names a winner only where corrected tests show one."""

import pytest

from arena.analysis.episode_data import gather
from arena.log.rows import EpisodeFilter
from arena.report.headline import headline


def headline_of(made_up, which=None):
    rows = made_up.log.episodes(which or EpisodeFilter())
    return headline(gather(made_up.log, [row.id for row in reversed(rows)]))


@pytest.mark.parametrize(
    ("scores", "begins", "said"),
    [
        ((0.50, 0.70, 0.30), "Which defender held out best cannot be told: strong and weak cannot "
         "be told apart. Lowest came out strong", "3 seeds); they cannot be told apart."),
        ((0.60, 0.61, 0.62), "strong held out best, by a paired t test: ", "3 seeds). The"),
        ((0.50, 0.50, 0.50), "Which defender held out best cannot be told: ",
         "alike on 3 seeds); they cannot"),
        ((0.60,), "Which defender held out best cannot be told on one seed: ", "may be chance"),
    ],
)  # fmt: skip
def test_the_headline_is_no_surer_than_its_seeds(made_up, scores, begins, said):
    for seed, clone in enumerate(scores):
        made_up.play("dfme", "weak", seed, clone=clone)
        made_up.play("dfme", "strong", seed, clone=0.45)
    text = headline_of(made_up)
    assert text.startswith(begins)
    assert said in text
    last = "held out least" if begins.startswith("strong held out best") else "came out highest"
    assert f"Against weak, which {last}," in text


def test_the_headline_corrects_for_the_number_of_rivals(made_up):
    """b alone would be told from a (p = 0.036), not as one of three (0.036 * 3)."""
    for seed in range(2):
        made_up.play("dfme", "a", seed, clone=0.30)
        for name in "bcd":
            made_up.play("dfme", name, seed, clone=0.44)
    text = headline_of(made_up)
    assert "a, b, c and d cannot be told apart" in text
    single = EpisodeFilter(defender=("a", "b"))
    assert headline_of(made_up, single).startswith("a held out best, by a paired t test")
