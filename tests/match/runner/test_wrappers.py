"""Any attacker of a scenario can be played behind oracle wrappers."""

from dataclasses import replace

import pytest

from arena.log.store import Log
from arena.registry.listing import inventory
from arena.runner import episode as episodes
from arena.runner.match import play
from arena.runner.saves.schedule import Saving
from arena.scenario import Scenario

RAW = {
    "version": 1,
    "name": "wrapped",
    "data": "digits",
    "seeds": [0],
    "checkpoints": 2,
    "victim": {"use": "conv-small", "recipe": {"epochs": 1}},
    "clone": {"use": "mlp-small"},
    "threat": {"budget": 600, "pool": {"use": "digits", "params": {"split": "validation"}}},
    "defenders": [{"name": "randp", "defence": "randp"}],
}
OFTEN = Saving(seconds=1e-9, share=1e9)
AVERAGING = {"use": "averaging", "params": {"repeats": 2, "duplicates": "jitter"}}


def scenario(*attackers, **changes):
    return Scenario.parse({**RAW, "attackers": list(attackers), **changes})


def result(row):
    assert row.status == "success", row.error
    return (row.queries_used, row.query_digest, row.answer_digest, row.clone_accuracy,
            row.clone_fidelity)  # fmt: skip


@pytest.fixture
def played(tmp_path):
    def results(*attackers, **changes):
        with Log.open(tmp_path / "log.db") as log:
            return [result(row) for row in play(scenario(*attackers, **changes), log=log).episodes]

    return results


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("averaging", AVERAGING["params"]),
        pytest.param("recovery", {"pairs": 100, "repeats": 2}, marks=pytest.mark.slow),
        pytest.param("inversion", {"labelled": 40}, marks=pytest.mark.slow),
    ],
)
def test_dfme_behind_a_wrapper_is_the_attacker_of_the_wrappers_name(played, name, params):
    front = {"use": name, "params": params}
    old, new = played(
        {"use": name, "params": {"batch": 16, **params}},
        {"use": "dfme", "params": {"batch": 16}, "wrappers": [front]},
    )
    assert old == new


def test_every_answer_of_a_wrapper_is_charged(played):
    plain, wrapped, bought = played(
        {"use": "noise"},
        {"use": "noise", "wrappers": [{"use": "averaging", "params": {"repeats": 7}}]},
        {"use": "knockoff", "params": {"epochs": 1}, "wrappers": ["averaging"]},
    )
    assert [used for used, *_ in (plain, wrapped, bought)] == [600, 595, 600]
    assert plain[1] != wrapped[1]


def test_wrappers_stand_in_order_and_labels_averaged_are_soft(played):
    """Recovery needs soft answers; averaging, next to the game, makes them of labels."""
    (row,) = played(
        {"use": "dfme", "wrappers": ["averaging", {"use": "recovery", "params": {"pairs": 100}}]},
        threat={"budget": 600, "labels": "hard"},
    )
    assert row[0] == 600


def test_wrappers_name_their_attacker_and_enter_the_plan_only_where_given():
    bare, wrapped = scenario({"use": "noise"}, {"use": "noise", "wrappers": [AVERAGING]}).plans()
    assert wrapped.attacker.name == "noise+averaging"
    assert "wrappers" not in bare.model_dump(mode="json")["attacker"]
    (front,) = wrapped.model_dump(mode="json")["attacker"]["wrappers"]
    assert front["params"] == {"combine": "mean", "duplicates": "jitter", "repeats": 2}
    assert type(wrapped).model_validate(wrapped.model_dump(mode="json")) == wrapped
    assert wrapped.hash != bare.hash


def test_an_episode_behind_wrappers_goes_on_from_its_save(tmp_path, monkeypatch):
    wanted = scenario(
        {"use": "dfme", "params": {"batch": 16}, "wrappers": [AVERAGING, "inversion"]}
    )
    with Log.open(tmp_path / "straight.db") as log:
        (straight,) = play(wanted, log=log, saving=replace(OFTEN, seconds=0)).episodes

    class Breaking(episodes.GameOracle):
        __slots__ = ()

        def query(self, images):
            if self.remaining < 200:
                raise KeyboardInterrupt
            return super().query(images)

    with Log.open(tmp_path / "resumed.db") as log:
        with monkeypatch.context() as patch:
            patch.setattr(episodes, "GameOracle", Breaking)
            assert play(wanted, log=log, saving=OFTEN).interrupted
        (resumed,) = play(wanted, log=log, saving=OFTEN).episodes
        assert [event.kind for event in log.events(resumed.id)].count("resumed") == 1
    assert result(resumed) == result(straight)


def test_wrappers_are_listed_with_what_they_can_be_told():
    entries = {entry.name: entry for entry in inventory("wrappers")}
    assert set(entries) == {"averaging", "recovery", "d-dae", "inversion", "top-label"}
    assert all(entry.summary and not entry.fault for entry in entries.values())
    assert "repeats" in [one.name for one in entries["averaging"].parameters]
