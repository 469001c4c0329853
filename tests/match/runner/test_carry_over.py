"""What a defender learns in one episode reaches the next, and only that."""

import pytest
from sqlalchemy import insert

from arena.log.store import Log
from arena.log.tables import EVENT
from arena.runner.carry_over import CARRIED_STATE, carried_state_of, dependency_levels
from arena.runner.match import play
from arena.runner.scheduler import Task
from arena.scenario import load

SERIES = {
    "name": "life",
    "seeds": [0, 1, 2],
    "checkpoints": 1,
    "victim": {"seed": 0},
    "threat": {"budget": 300},
    "defenders": [
        {
            "use": "bandit",
            "policy": {"exploration": 0.1},
            "defence": ["undefended", {"use": "randp", "params": {"epsilon": 0.5}}],
        },
        {"name": "bare"},
    ],
}


@pytest.fixture
def scenario(tiny_file):
    return lambda *overrides: load(str(tiny_file(**SERIES)), list(overrides))


def carried(log, rows):
    return [carried_state_of(log, row.id) for row in rows if row.defender == "bandit"]


def test_episodes_of_a_learner_follow_each_other_over_the_seeds(scenario):
    learner, bare = scenario().plans()[:3], scenario().plans()[3:]
    assert [plan.after for plan in learner] == ["", learner[0].hash, learner[1].hash]
    assert [plan.after for plan in bare] == ["", "", ""]


def test_what_came_before_is_part_of_a_learners_hash_and_of_nobody_elses(scenario):
    plans, turned = scenario().plans(), scenario("seeds=[1, 0, 2]").plans()
    assert plans[1].hash != turned[0].hash  # seed 1, with a past and without
    assert plans[2].hash != turned[2].hash  # seed 2, after another past
    assert {plan.hash for plan in plans[3:]} == {plan.hash for plan in turned[3:]}


def test_the_lesson_itself_does_not_change_the_hash(scenario):
    plan = scenario().plans()[1]
    assert plan.model_copy(update={"carried_state": {"past": []}}).hash == plan.hash


def test_levels_put_each_episode_behind_the_one_it_learns_from(scenario):
    tasks = [Task(n, 6, plan) for n, plan in enumerate(scenario().plans())]
    assert [[task.number for task in level] for level in dependency_levels(tasks)] == [
        [0, 3, 4, 5],
        [1],
        [2],
    ]
    # where the first was played before, the second need not wait
    assert [[task.number for task in level] for level in dependency_levels(tasks[1:])] == [
        [1, 3, 4, 5],
        [2],
    ]
    assert list(dependency_levels([])) == []


def test_each_episode_knows_the_ones_before_and_the_same_life_is_lived_again(tmp_path, scenario):
    lives = []
    for name in ("a.db", "b.db"):
        with Log.open(tmp_path / name) as log:
            rows = play(scenario(), log=log).episodes
            assert [row.status for row in rows] == ["success"] * 6
            lives.append((carried(log, rows), [row.answer_digest for row in rows]))
    assert lives[0] == lives[1]
    learnt = lives[0][0]
    assert [len(carried_state["past"]) for carried_state in learnt] == [1, 2, 3]
    assert [seen["arm"] for seen in learnt[-1]["past"]][:2] == [0, 1]
    assert learnt[-1]["past"][:2] == learnt[1]["past"]


def test_a_life_that_was_broken_off_goes_on_where_it_was(tmp_path, scenario):
    with Log.open(tmp_path / "whole.db") as log:
        whole = carried(log, play(scenario(), log=log).episodes)
    with Log.open(tmp_path / "parts.db") as log:
        play(scenario("seeds=[0]"), log=log)
        result = play(scenario(), log=log)
        assert result.skipped == 2  # seed 0 of either defender
        assert carried(log, result.episodes) == whole


def test_after_a_failure_the_rest_of_a_life_is_left_out_and_said_so(tmp_path, scenario, watcher):
    sick = tmp_path / "sick.py"
    sick.write_text(
        "from agents.defenders.bandit import Bandit\n"
        "class Sick(Bandit):\n"
        "    def act(self, view):\n"
        "        raise RuntimeError('not today')\n"
    )
    with Log.open(tmp_path / "a.db") as log:
        result = play(scenario(f"defenders.0.use={sick}:Sick"), log=log, watcher=watcher)
        assert [row.status for row in result.episodes] == ["error"] + ["success"] * 3
    assert result.failed
    assert len([line for line in watcher.lines if "left out" in line]) == 2


def test_a_lesson_is_an_event_of_its_episode_beside_the_notes(tmp_path, scenario):
    with Log.open(tmp_path / "a.db") as log:
        row = play(scenario("seeds=[0]"), log=log).episodes[0]
        kinds = {event.kind: event for event in log.events(row.id)}
    assert set(kinds) == {"arm", CARRIED_STATE}
    assert kinds["arm"].data["data"]["arm"] == 0
    assert kinds["arm"].data["answered"] == 400


def test_a_players_note_called_as_the_event_is_no_state(tmp_path, scenario):
    """Logs of older programs may have one."""
    with Log.open(tmp_path / "a.db") as log:
        (row, *_) = play(scenario("seeds=[0]"), log=log).episodes
        known = carried_state_of(log, row.id)
        note = {"episode_id": row.id, "time": row.started, "kind": CARRIED_STATE, "message": "",
                "data": {"data": {"carried_state": {"past": ["forged"]}}}}  # fmt: skip
        with log.engine.begin() as connection:
            connection.execute(insert(EVENT), note)
        assert carried_state_of(log, row.id) == known != {}
