"""The tables of the report."""

from arena.analysis.episode_data import gather
from arena.report.html import render
from arena.report.tables import (
    episode_details,
    headings,
    inference_lines,
    origins,
    shared_scores,
)


def episode_data_of(made_up):
    rows = made_up.log.episodes()
    return gather(made_up.log, [row.id for row in reversed(rows)])


def test_what_an_attacker_left_unsaid_is_one_line(made_up):
    truths = {"depth": 10, "family": "resnet", "thresholds": None}
    unsaid = [{"attribute": name, "inferred": None, "truth": truths[name]} for name in truths]
    made_up.play(inferences=[{"attribute": "exits", "inferred": 3, "truth": 3}, *unsaid])
    said, rest = inference_lines(episode_data_of(made_up))
    assert (said.attribute, said.inferred) == ("exits", "3")
    assert rest.attribute == "depth, family and thresholds"
    assert (rest.inferred, rest.truth) == ("unknown", "depth 10; family resnet")


def test_what_the_attacker_does_not_know_counts_as_not_right(made_up):
    made_up.play(inferences=[{"attribute": "depth", "inferred": None, "truth": 10}])
    (line,) = inference_lines(episode_data_of(made_up))
    assert (line.inferred, line.correct) == ("unknown", "0 of 1 (1 unknown)")


def test_long_tables_are_thinned_and_say_so(made_up):
    made_up.play(
        curve=[(queries, queries / 500) for queries in range(1, 501)],
        events=[("note", str(number), {}) for number in range(80)],
    )
    episode_data = episode_data_of(made_up)
    details = episode_details(episode_data, episode_data.episodes[0])
    assert len(details.checkpoints) == 60
    assert details.hidden_checkpoints == 440
    assert (details.checkpoints[0][0], details.checkpoints[-1][0]) == ("1", "500")
    assert (len(details.events), details.hidden_events) == (50, 30)


def test_runs_of_one_text_are_told_once(made_up):
    for seed in range(3):
        made_up.play(seed=seed)
    made_up.play(seed=4, text="changed = true")
    found = origins(episode_data_of(made_up).runs)
    assert [origin.text for origin in found] == ['name = "made-up"', "changed = true"]
    assert "3 runs" in found[0].when


def test_a_scoreboard_with_accounts_has_no_column_of_what_is_the_same_in_every_row(made_up):
    made_up.play("noise", clone=0.1)
    plain = headings(episode_data_of(made_up).board)
    assert len(plain) == 10
    assert shared_scores(episode_data_of(made_up).board) == []
    for name, clone, fidelity in (("dfme", 0.5, 0.4), ("late", 0.6, 0.7)):
        made_up.play(name, scenario="with accounts", clone=clone, clone_fidelity=fidelity,
                     accounts_used=10, attack_price=3000.5)  # fmt: skip
    (_, part) = episode_data_of(made_up).games().values()
    assert headings(part.board) == [
        ("clone_accuracy", "clone accuracy"),
        ("clone_fidelity", "clone fidelity"),
    ]
    told = dict(shared_scores(part.board))
    assert (told["accounts"], told["price of the attack"]) == ("10", "3,000")
    assert told["victim accuracy"] == "95.0%"
    assert "The same in every row: victim accuracy 95.0%, " in render(part)
