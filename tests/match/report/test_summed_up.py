"""The report says first, in a few lines, what its long tables say row by row."""

import pytest

from tests.match.report.test_html import Reader, no_figures, report_of  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_figures")


def test_what_attackers_inferred_is_summed_up_by_attribute_and_who_was_right_most(
    made_up, tmp_path
):
    def said(inferred):
        right = None if inferred is None else inferred == "vgg"
        return [
            {"attribute": "family", "inferred": inferred, "truth": "vgg", "correct": right},
            {"attribute": "number_of_exits", "inferred": 2, "truth": 3, "correct": False},
        ]

    for seed, (first, other) in enumerate([("vgg", "resnet"), ("vgg", "vgg"), ("vgg", None)]):
        made_up.play("dfme", seed=seed, inferences=said(first))
        made_up.play("late", seed=seed, inferences=said(other))
    text = " ".join(Reader(report_of(made_up, tmp_path)).text)
    # Wilson's interval of 4 of 6, from the formula by hand
    assert "right in 4 of 6 episodes (95% interval 30.0% to 90.3%), 1 of them left unknown" in text
    assert "most often by dfme, in 3 of 3 episodes." in text
    assert "right in 0 of 6 episodes (95% interval 0.0% to 39.0%)." in text


@pytest.mark.parametrize(("attackers", "folded"), [(12, 0), (13, 1)])
def test_a_scoreboard_of_many_meetings_is_folded(made_up, tmp_path, attackers, folded):
    for number in range(attackers):
        for defender in ("undefended", "dnf"):
            made_up.play(f"attacker-{number}", defender, curve=())
    text = report_of(made_up, tmp_path)
    assert text.count(f"All {2 * attackers} meetings") == folded


def test_the_scoreboard_tells_variants_of_an_attacker_apart(made_up, tmp_path):
    for rate in (1, 9):
        made_up.play("dfme", "dnf", 0, plan={"attacker": {"use": "dfme", "params": {"rate": rate}}})
    text = report_of(made_up, tmp_path)
    board = text[text.index(">Scoreboard<") : text.index("<h3>Figures")]
    assert "rate=1)" in board
    assert "rate=9)" in board
