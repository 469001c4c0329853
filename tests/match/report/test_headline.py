"""The headline names a winner only where corrected tests show one."""

import pytest

from arena.analysis.episode_data import gather
from arena.log.episode_filter import EpisodeFilter
from arena.report.headline import headline


def headline_of(made_up, which=None):
    rows = made_up.log.episodes(which or EpisodeFilter())
    return headline(gather(made_up.log, [row.id for row in reversed(rows)]))


@pytest.mark.parametrize(
    ("scores", "begins", "said"),
    [
        ((0.50, 0.70, 0.30), "Which defender held out best cannot be told: strong and weak cannot "
         "be told apart. ", "45.0% against strong, the lowest, and of 50.0% against weak, the "
         "highest: 5.0 points more (95% interval"),
        ((0.60, 0.61, 0.62), "strong held out best, by a paired t test: ",
         "Against weak, which held out least, the best attack"),
        ((0.50, 0.50, 0.50), "Which defender held out best cannot be told: ",
         "alike on 3 seeds), which may be chance."),
        ((0.45, 0.46, 0.44), "Which defender held out best cannot be told: ",
         "Against each of them the best attack reached a clone accuracy of 45.0%. The"),
        ((0.60,), "Which defender held out best cannot be told on one seed: ",
         "15.0 points more on the one seed they share, which may be chance."),
    ],
)  # fmt: skip
def test_the_headline_is_no_surer_than_its_seeds(made_up, scores, begins, said):
    for seed, clone in enumerate(scores):
        made_up.play("dfme", "weak", seed, clone=clone)
        made_up.play("dfme", "strong", seed, clone=0.45)
    text = headline_of(made_up)
    assert text.startswith(begins)
    assert said in text
    assert ("which may be chance" in text) == ("points more" in text and "cannot" in begins)


def test_of_several_that_cannot_be_told_apart_the_lowest_is_named_beside_one_that_is_behind(
    made_up,
):
    for seed, clone in enumerate((0.44, 0.46, 0.47, 0.44)):
        made_up.play("dfme", "a", seed, clone=0.45)
        made_up.play("dfme", "b", seed, clone=clone)
        made_up.play("dfme", "weak", seed, clone=round(clone + 0.45, 2))
    text = headline_of(made_up)
    assert "cannot be told: a and b cannot be told apart. Lowest came out a: against it" in text
    assert "Against weak, which held out least, the best attack, dfme" in text


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


def test_on_unequal_seeds_nobody_is_called_better_against_the_test(made_up):
    few, many = (0.5, 0.51, 0.49, 0.5, 0.505), (0.4, 0.41, 0.39, 0.4, 0.405, 0.8, 0.82, 0.81)
    for defender, clones in (("a", few), ("b", many)):
        for seed, clone in enumerate(clones):
            made_up.play("x", defender, seed, clone=clone)
    said = headline_of(made_up)
    assert "cannot be told" in said
    assert "on the 5 seeds that both have it is the other way round" in said
    assert "points more" not in said
