"""Code that is edited while a run plays: nothing is logged as the play of what it was before."""

import pytest

from arena.log.store import Log
from arena.runner.match import play
from arena.scenario.planning import require_unedited
from envs.errors import ScenarioError

PLAYER = """
from pathlib import Path

from agents.attackers.noise import Noise
from agents.oracle_wrappers.top_label import TopLabel
from envs.defences.base import Defence

MARK = "first"


def edit():
    me = Path(__file__)
    me.write_text(me.read_text().replace('MARK = "first"', 'MARK = "second"'))


class Edits(Noise):
    def attack(self, oracle, kit):
        kit.note("mark", MARK)
        edit()
        super().attack(oracle, kit)


class Plain(Noise):
    pass


class Wraps(TopLabel):
    pass


class Defends(Defence):
    def serve(self, serving):
        return serving.base
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "player.py"
    path.write_text(PLAYER)
    return path


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "a.db") as log:
        yield log


def marks(log, rows):
    return [event.message for row in rows for event in log.events(row.id) if event.kind == "mark"]


def by_attacker(file):
    return {"attackers": [{"use": f"{file}:Edits"}]}


def test_an_edited_attacker_ends_its_next_episode_and_the_next_run_plays_it(log, file, scenario):
    changes = {**by_attacker(file), "seeds": [0, 1], "victim": {"seed": 0}}
    rows = play(scenario(changes), log=log).episodes
    assert [row.status for row in rows] == ["success", "error"]
    assert "the code of Edits was edited since the run began" in rows[1].error
    again = play(scenario(changes), log=log).episodes
    assert [row.status for row in again] == ["success", "success"]
    assert marks(log, [*rows, *again]) == ["first", "second", "second"]


@pytest.mark.parametrize("way", ["none", "process"])
@pytest.mark.parametrize("role", ["attacker", "wrapper", "defence"])
def test_whatever_of_a_player_is_edited_is_found(file, scenario, role, way):
    changes = {
        "attacker": by_attacker(file),
        "wrapper": {"attackers": [{"use": "noise", "wrappers": [f"{file}:Wraps"]}]},
        "defence": {"defenders": [{"defence": f"{file}:Defends"}]},
    }[role]
    (plan,) = scenario({**changes, "isolation": way}).plans()
    require_unedited(plan)
    file.write_text(file.read_text() + "# edited")
    with pytest.raises(ScenarioError, match="was edited since the run began"):
        require_unedited(plan)


def test_a_save_of_an_edited_attacker_is_not_gone_on_from(
    file, scenario, break_game, always, watcher, monkeypatch
):
    one = scenario({"attackers": [{"use": f"{file}:Plain"}]})
    log, row, _ = break_game(one)
    monkeypatch.setattr(
        watcher, "begin", lambda *_: file.write_text(file.read_text() + "# edited"), raising=False
    )
    (again,) = play(one, log=log, saving=always, watcher=watcher).episodes
    assert (again.id != row.id, again.status) == (True, "error")
    assert "was edited since the run began" in again.error
    (line,) = [line for line in watcher.lines if "cannot be resumed" in line]
    assert "edited" in line
