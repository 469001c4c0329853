"""`import arena` plays in this process, and reads what was played."""

import importlib
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

import arena
from agents import Attacker, Countermeasure, Defender
from arena.scenario import load
from envs.defences.base import Defence
from envs.errors import ArenaError, ScenarioError

TINY = """
version = 1
name = "tiny"
data = "digits"
seeds = [0]
checkpoints = 1

[victim]
use = "mlp-small"
recipe = { epochs = 1 }

[clone]
use = "mlp-small"

[threat]
budget = 64

[[attackers]]
use = "noise"
params = { batch = 32 }

[[defenders]]
defence = "undefended"
"""

MODULE = """
import torch
from agents import Attacker

SCALE = 1.0

def draw(count, shape, generator):
    return SCALE * torch.rand((count, *shape), generator=generator)

class Own(Attacker):
    def __init__(self, *, batch: int = 32) -> None:
        self.batch = batch

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        while oracle.remaining:
            count = min(self.batch, oracle.remaining)
            oracle.query(draw(count, oracle.threat.image_shape, kit.generator))
"""


class Asks(Attacker):
    """Asks grey images."""

    def __init__(self, *, batch: int = 32) -> None:
        self.batch = batch

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        while oracle.remaining:
            count = min(self.batch, oracle.remaining)
            oracle.query(kit.device.type == "cpu" and grey(count, oracle.threat.image_shape))
            kit.safe_point()

    resume = attack


def grey(count, shape):
    import torch

    return torch.full((count, *shape), 0.5)


class Calm(Defender):
    """Answers at half strength."""

    def act(self, view):
        return Countermeasure(strength=0.5)


class Plain(Defence):
    """Changes nothing."""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    return "tiny.toml"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that defines an attacker, and a way to edit and reload it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = f"own_{tmp_path.name.replace('-', '_')}"

    def write(text=MODULE, *, reload=True):
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        if reload:
            sys.modules.pop(name, None)
        return importlib.import_module(name)

    yield write
    sys.modules.pop(name, None)


def runs(log="arena.db"):
    """Count the runs in a log: one for each call that played something."""
    with arena.open_log(log) as opened:
        return opened.episodes().episode_id.nunique()


def test_importing_the_arena_loads_nothing_heavy():
    code = (
        "import sys, arena\n"
        "print([name for name in ('torch', 'pandas', 'sqlalchemy', 'pydantic') "
        "if name in sys.modules], dir(arena).count('run'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[]")


def test_a_call_plays_and_returns_a_row_for_each_episode(tiny):
    frame = arena.run(
        tiny, attackers=[Asks, "noise"], seeds=range(2), overrides={"threat.budget": 48}
    )
    assert list(zip(frame.attacker, frame.seed, strict=True)) == [
        ("Asks", 0), ("Asks", 1), ("noise", 0), ("noise", 1),
    ]  # fmt: skip
    assert set(frame.status) == {"success"}
    assert set(frame.queries_used) == {48}
    assert frame.attacker_params[2]["batch"] == 32  # the scenario's own noise, not the default
    again = arena.run(
        tiny, attackers=[Asks, "noise"], seeds=range(2), overrides={"threat.budget": 48}
    )
    assert list(again.episode_id) == list(frame.episode_id)


def test_defences_defenders_and_tables_are_taken(tiny):
    frame = arena.run(
        tiny,
        attackers={"use": Asks, "name": "slow", "params": {"batch": 16}},
        defenders=[Plain, "undefended", {"use": Calm, "defence": [Plain]}],
    )
    assert list(frame.defender) == ["Plain", "undefended", "Calm"]
    assert set(frame.attacker) == {"slow"}
    assert set(frame.status) == {"success"}


def test_a_loaded_scenario_and_one_of_our_classes_are_taken(tiny):
    from agents.attackers.noise import Noise

    by_class = arena.run(load(tiny), attackers=Noise, log="a.db")
    by_name = arena.run(tiny, attackers={"use": "noise", "name": "Noise"}, log="a.db")
    assert list(by_class.episode_id) == list(by_name.episode_id)


def test_numbers_of_numpy_and_torch_are_numbers(tiny):
    values = {"threat.budget": np.int64(20), "traffic.benign": np.float32(0.5),
              "attackers.noise.params.batch": torch.tensor(7)}  # fmt: skip
    by_value = arena.run(tiny, attackers="noise", overrides=values, log="a.db")
    plain = {"threat.budget": 20, "traffic.benign": 0.5, "attackers.noise.params.batch": 7}
    again = arena.run(tiny, attackers="noise", overrides=plain, log="a.db")
    assert list(by_value.episode_id) == list(again.episode_id)


def test_rows_come_without_pandas_too(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = arena.run(tiny, attackers=Asks)
    assert [row["attacker"] for row in rows] == ["Asks"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"attackers": [{"use": Asks, "params": {"bach": 3}}]}, "did you mean 'batch'"),
        ({"attackers": [int]}, "int: expected a subclass of agents.Attacker"),
        ({"attackers": [Calm]}, "Calm: expected a subclass of agents.base.Attacker, got Calm"),
        ({"overrides": {"threat.bugdet": 3}}, "did you mean 'budget'"),
        ({"attackers": ["nois"]}, "noise"),
    ],
)
def test_mistakes_are_told_before_anything_is_played(tiny, options, line):
    with pytest.raises(ArenaError, match=line):
        arena.run(tiny, **options)


def test_a_class_of_a_module_is_played_once_and_again_when_edited(tiny, module):
    own = module().Own
    first = arena.run(tiny, attackers=own)
    assert list(arena.run(tiny, attackers=own).episode_id) == list(first.episode_id)
    assert list(arena.run(tiny, attackers=module().Own).episode_id) == list(first.episode_id)
    edited = module(MODULE.replace("self.batch = batch", "self.batch = batch + 1")).Own
    second = arena.run(tiny, attackers=edited)
    helper = module(MODULE.replace("SCALE *", "0.5 * SCALE *")).Own
    third = arena.run(tiny, attackers=helper)
    value = module(MODULE.replace("SCALE = 1.0", "SCALE = 0.5")).Own
    fourth = arena.run(tiny, attackers=value)
    frames = (first, second, third, fourth)
    assert len({frame.episode_id[0] for frame in frames}) == 4


def test_a_class_without_a_source_is_played_each_time_and_says_so(tiny, caplog):
    space = {"__name__": "nowhere"}
    exec(MODULE, space)
    with caplog.at_level(logging.WARNING, logger="arena"):
        first = arena.run(tiny, attackers=space["Own"])
    assert "Own is played each time, because the source of" in caplog.text
    second = arena.run(tiny, attackers=space["Own"])
    assert first.status[0] == second.status[0] == "success"
    assert first.episode_id[0] != second.episode_id[0]


def test_a_class_whose_file_was_edited_since_is_played_each_time(tiny, module, caplog):
    own = module().Own
    module(MODULE.replace("1.0", "0.5") + "# longer\n", reload=False)
    module("\n" + MODULE, reload=False)  # other lines: not the code that is loaded
    arena.run(tiny, attackers=own)
    assert "was edited after" in caplog.text


def test_a_class_that_cannot_be_pickled_plays_without_saves_and_says_so(tiny, caplog):
    class Local(Asks):
        def __getstate__(self):
            raise ValueError("holds a socket")

    frame = arena.run(tiny, attackers=Local, save_every=1e-9)
    assert frame.status[0] == "success"
    assert "cannot be saved" in caplog.text
    assert "holds a socket" in caplog.text


def test_classes_that_differ_in_what_they_enclose_are_told_apart(tiny):
    def make(shade):
        class Shaded(Asks):
            def attack(self, oracle, kit):
                oracle.query(shade * grey(8, oracle.threat.image_shape))

        return Shaded

    frames = [arena.run(tiny, attackers=make(shade)) for shade in (0.2, 0.4, 0.2)]
    ids = [frame.episode_id[0] for frame in frames]
    assert ids[0] == ids[2] != ids[1]


def test_a_failed_episode_is_a_row_and_a_warning(tiny, caplog):
    class Fails(Asks):
        def attack(self, oracle, kit):
            raise ZeroDivisionError("here")

    frame = arena.run(tiny, attackers=Fails)
    assert frame.status[0] == "error"
    assert "ZeroDivisionError: here" in frame.error[0]
    assert "ZeroDivisionError: here" in caplog.text


@pytest.mark.slow
def test_workers_take_classes_of_modules_and_refuse_others(tiny, module):
    class Local(Asks):
        pass

    with pytest.raises(ScenarioError, match=r"workers cannot import .*Local"):
        arena.run(tiny, attackers=Local, workers=2)
    frame = arena.run(tiny, attackers=module().Own, workers=2, seeds=[0, 1])
    assert set(frame.status) == {"success"}


def test_an_open_log_gives_frames_episodes_and_replays(tiny):
    frame = arena.run(tiny, attackers=Asks)
    id = frame.episode_id[0]
    with arena.open_log("arena.db") as log:
        assert list(log.episodes(attacker="Asks").episode_id) == [id]
        assert log.episodes(attacker="noise").empty
        assert log.checkpoints().queries_used.max() == 64
        assert log.rounds().queries_used.max() == 64
        assert {"bucket", "exit"} <= set(log.exits().columns)
        assert log.events().empty == log.inferences().empty
        assert log.episode(id[:6]).attacker == "Asks"
        assert log.replay(id)
        assert log.replay(id, verify=True).same


def test_a_log_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ArenaError, match="there is no log"):
        arena.open_log(tmp_path / "none.db")


def test_the_name_of_a_sweep_means_its_settings_with_their_parameters(tiny):
    with open(tiny, "a") as file:
        file.write('[[defenders]]\ndefence = "randp"\nsweep = { epsilon = [0.1, 0.9] }\n')
    frame = arena.run(tiny, defenders=["randp"])
    assert list(frame.defender) == ["randp epsilon=0.1", "randp epsilon=0.9"]
