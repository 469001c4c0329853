"""Files that are edited while a run plays: nothing is logged as the play of what they were."""

import numpy as np
import pytest
import torch
from PIL import Image

from arena.log.store import Log
from arena.runner.match import play
from arena.runner.progress import Watcher
from arena.scenario.planning import require_unedited
from envs.data.own import forget
from envs.errors import ScenarioError
from envs.nets import registry

PLAYER = """
from pathlib import Path

from agents.attackers.noise import Noise
from agents.oracle_wrappers.top_label import TopLabel
from arena.evaluation.clone_metric import CloneMetric
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


class Measures(CloneMetric):
    def measure(self, handed):
        return 0.0


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
@pytest.mark.parametrize("role", ["attacker", "wrapper", "defence", "metric"])
def test_whatever_of_a_player_is_edited_is_found(file, scenario, role, way):
    changes = {
        "attacker": by_attacker(file),
        "wrapper": {"attackers": [{"use": "noise", "wrappers": [f"{file}:Wraps"]}]},
        "defence": {"defenders": [{"defence": f"{file}:Defends"}]},
        "metric": {"metrics": [f"{file}:Measures"]},
    }[role]
    (plan,) = scenario({**changes, "isolation": way}).plans()
    require_unedited(plan)
    file.write_text(file.read_text() + "# edited")
    with pytest.raises(ScenarioError, match="was edited since the run began"):
        require_unedited(plan)


def test_a_save_of_an_edited_attacker_waits_until_its_file_is_put_back(
    file, scenario, break_game, always, watcher, monkeypatch
):
    one = scenario({"attackers": [{"use": f"{file}:Plain"}]})
    log, row, _ = break_game(one)
    written = file.read_text()
    monkeypatch.setattr(
        watcher, "begin", lambda *_: file.write_text(written + "# edited"), raising=False
    )
    (again,) = play(one, log=log, saving=always, watcher=watcher).episodes
    assert (again.id, again.status) == (row.id, row.status)
    (line,) = [line for line in watcher.lines if "is not resumed" in line]
    assert "was edited since the run began" in line
    file.write_text(written)
    (resumed,) = play(one, log=log, saving=always).episodes
    assert (resumed.id, resumed.status) == (row.id, "success")


POOL = """
from pathlib import Path

import numpy as np


def images():
    return np.load(Path(__file__).with_name("images.npy"))
"""


def write_images(path, value):
    np.save(path, np.full((40, 8, 8), value, dtype=np.uint8))


def write_folder(root, value):
    for number in range(3):
        (root / "own").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), value + number).save(root / "own" / f"{number}.png")


def fortress(ood):
    return {"defence": "dnf", "params": {"epochs": 1, "ood": ood}}


@pytest.mark.parametrize(
    ("role", "name"),
    [("pool", "the pool"), ("victim", "the victim"), ("ood", "data set folder"),
     ("own", "data set images")],
)  # fmt: skip
def test_a_file_that_is_edited_between_two_games_ends_the_next_one(
    log, scenario, tmp_path, monkeypatch, role, name
):
    monkeypatch.setenv("ARENA_DATA", str(tmp_path / "data"))
    write_folder(tmp_path / "data", 0)
    weights, own = tmp_path / "w.pt", tmp_path / "own_images.py"
    own.write_text(POOL)
    write_images(tmp_path / "images.npy", 7)
    net = registry.build("conv-small", num_classes=10, image_shape=(1, 8, 8),
                         generator=torch.Generator().manual_seed(0))  # fmt: skip
    torch.save(net.state_dict(), weights)

    def edit(*_):
        write_folder(tmp_path / "data", 50)
        write_images(tmp_path / "images.npy", 9)
        with torch.no_grad():
            next(net.parameters()).add_(0.1)
        torch.save(net.state_dict(), weights)
        forget()  # as in a worker that begins now

    changes = {
        "pool": {"threat": {"pool": {"use": "folder", "params": {"size": 8, "grey": True}}}},
        "victim": {"victim": {"weights": str(weights)}},
        "ood": {"defenders": [fortress("folder")]},
        "own": {"defenders": [fortress(f"{own}:images")]},
    }[role]  # fmt: skip
    two = scenario({**changes, "seeds": [0, 1]})
    plans = two.plans()
    (before, _), now = [plan.hash for plan in plans], Watcher()
    now.end = lambda *arguments: edit()
    rows = play(two, log=log, watcher=now).episodes
    assert [row.status for row in rows] == ["success", "error"]
    assert f"the files of {name} were edited since the run began" in rows[1].error
    again = scenario({**changes, "seeds": [0, 1]})
    assert before not in [plan.hash for plan in again.plans()]
    assert [row.status for row in play(again, log=log).episodes] == ["success", "success"]


def test_data_that_are_edited_between_plan_and_reading_are_not_played(
    log, scenario, tmp_path, monkeypatch
):
    for part in ("a", "b"):
        (tmp_path / "set" / part).mkdir(parents=True)
        for number in range(30):
            Image.new("L", (8, 8), number).save(tmp_path / "set" / part / f"{number}.png")
    data = {"use": "folder", "root": str(tmp_path), "params": {"path": "set", "grey": True}}
    one = scenario({"data": data})
    plans = one.plans()
    monkeypatch.setattr(type(one), "plans", lambda self: plans)
    Image.new("L", (8, 8), 200).save(tmp_path / "set" / "a" / "0.png")
    (row,) = play(one, log=log).episodes
    assert "the files of the data were edited since the run began" in row.error


def test_data_in_memory_are_what_the_plan_says_wherever_their_files_went(log, scenario, tmp_path):
    for part in ("a", "b"):
        write_folder(tmp_path / "set" / part, 40 if part == "a" else 90)
        for number in range(20):
            Image.new("L", (8, 8), number).save(tmp_path / "set" / part / f"more{number}.png")
    data = {"use": "folder", "root": str(tmp_path), "params": {"path": "set", "grey": True}}
    two = scenario({"data": data, "seeds": [0, 1], "attackers": [{"use": "noise"}]})
    watcher = Watcher()
    watcher.end = lambda *_: (
        (tmp_path / "set").exists() and (tmp_path / "set").rename(tmp_path / "gone")
    )
    assert [row.status for row in play(two, log=log, watcher=watcher).episodes] == ["success"] * 2


@pytest.mark.parametrize(
    ("defence", "line"),
    [
        ({"use": "dnf", "params": {"epochs": 1}}, "exits:"),
        ({"use": "dnf_plus", "params": {"steps": 2}}, "guards:"),
        ({"use": "adaptive-misinformation", "params": {"epochs": 1}}, "outlier-exposed"),
    ],
)
def test_what_is_trained_on_a_named_folder_is_not_recalled_for_other_images(
    log, scenario, watcher, tmp_path, monkeypatch, defence, line
):
    monkeypatch.setenv("ARENA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ARENA_CACHE", str(tmp_path / "cache"))
    params = {**defence["params"], "ood": "folder"}
    changes = {"defenders": [{"defence": defence["use"], "params": params}]}
    trained = []
    for value in (0, 90, 90):
        write_folder(tmp_path / "data", value)
        watcher.lines.clear()
        play(scenario(changes), log=log, watcher=watcher, fresh=True)
        trained.append(any(line in told for told in watcher.lines))
    assert trained == [True, True, False]
