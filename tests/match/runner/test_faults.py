"""What players do may end their own episode only, as an error with its reason."""

import os
import subprocess
import sys

import pytest
import torch

from arena.log.checking import check
from arena.log.episode_filter import EpisodeFilter
from arena.log.store import Log
from arena.log.writer import EpisodeWriter
from arena.runner.match import play
from arena.runner.stopping import stopping
from arena.scenario import load
from arena.system.process_state import ProcessState

PLAYERS = """
import os, sys
import torch
from torch import nn
from agents.base import ArchitectureGuess, Attacker, Defender, Note
from envs.errors import BudgetExhausted
from envs.game.rounds import Countermeasure


class Odd(BaseException):
    pass


class Unreadable(Exception):
    def __str__(self):
        raise RuntimeError("no message")


class Bad(Attacker):
    def __init__(self, *, how: str = ""):
        self.how = how

    def ask(self, oracle, kit):
        oracle.query(torch.rand(50, *oracle.threat.image_shape, generator=kit.generator))

    def rest(self, oracle, kit):
        while oracle.remaining:
            self.ask(oracle, kit)

    def insist(self, oracle, kit, faults):
        for _ in range(9):
            try:
                self.ask(oracle, kit)
            except faults:
                pass

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        self.ask(oracle, kit)
        exec(self.how)


class Broken(nn.Module):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def forward(self, images):
        raise self.fault


class Sick(Defender):
    learns_between_episodes = True

    def __init__(self, *, how: str = ""):
        self.how = how

    def begin(self, kit):
        self.asked = 0
        exec(self.how if self.how.startswith("raise") else "")

    def act(self, view):
        self.asked += len(view.images) if len(view.images) == 50 else 0  # not the referee's
        exec(self.how if self.how.startswith("if") else "")
        return Countermeasure()

    def notes(self):
        return eval(self.how) if "Note" in self.how else ()

    def carried_state(self):
        return {} if "Note" in self.how or "asked" in self.how else eval(self.how)
"""

SCENARIO = """
version = 1
name = "faults"
data = "digits"
seeds = [0]
checkpoints = 2
victim = { use = "conv-small", recipe = { epochs = 1 } }
clone = { use = "mlp-small" }
threat = { budget = 200 }
"""


@pytest.fixture
def scenario(tmp_path):
    (tmp_path / "players.py").write_text(PLAYERS)

    def write(attackers=("",), defender=None):
        text = SCENARIO
        for number, how in enumerate(attackers):
            use = f'use = "{tmp_path}/players.py:Bad"\nparams = {{ how = {how!r} }}'
            text += f'[[attackers]]\nname = "bad{number}"\n{use}\n'
        text += '[[attackers]]\nuse = "noise"\n' if defender is None else ""
        use = 'name = "undefended"'
        if defender is not None:
            use = f'use = "{tmp_path}/players.py:Sick"\npolicy = {{ how = {defender!r} }}'
        path = tmp_path / "faults.toml"
        path.write_text(f"{text}[[defenders]]\n{use}\n")
        return path

    return write


def played(path, **options):
    with Log.open(path.with_suffix(".db")) as log:
        result = play(load(str(path)), log=log, **options)
        return result, {row.id: log.events(row.id) for row in result.episodes}


FAULTS = {
    "sys.exit('bad')": "SystemExit: bad",
    "raise SystemExit(0)": "SystemExit: 0",
    "os._exit(3)": "SystemExit: os._exit(3)",
    "self.clone.forward = lambda *_: os._exit(3); self.rest(oracle, kit)":
        "the clone fails at 100 queries: SystemExit: os._exit(3)",
    "raise GeneratorExit": "GeneratorExit: no message",
    "raise Odd('odd')": "Odd: odd",
    "raise Unreadable": "Unreadable: its message cannot be read",
    "raise ValueError('file \\udcff')": "ValueError: file \\udcff",
    "kit.note('kind', 'file \\udcff.png')": "kit.note 'kind': expected a text that UTF-8",
    "kit.note('\\udcff', 'file')": "kit.note: kind: expected a text that UTF-8",
    "kit.note('kind', 'file', path='\\udcff')": "kit.note 'kind': expected a text that UTF-8",
    "kit.note('kind', 'thing', thing=object())": "kit.note 'kind': expected JSON values",
    "kit.report(loss='high')": "kit.report: expected numbers, got loss='high'",
    "kit.report(loss=torch.zeros(2))": "kit.report: expected numbers, got loss of type Tensor",
    "self.inferred = ArchitectureGuess(exits=torch.tensor(2))":
        "inferred.exits: expected a whole number below 2**63, got Tensor",
    "self.inferred = ArchitectureGuess(confidence={'family': 'very'})":
        "inferred.confidence of family: expected a number from 0 to 1, got 'very'",
    "self.inferred = {'family': 'vgg'}":
        "inferred: expected an ArchitectureGuess or None, got dict",
    "self.clone = Broken(SystemExit(0)); self.rest(oracle, kit)":
        "the clone fails at 100 queries: SystemExit: 0",
    "self.clone = Broken(BudgetExhausted('x')); self.rest(oracle, kit)":
        "the clone fails at 100 queries: x",
    "self.rest(oracle, kit); self.clone = Broken(SystemExit(0))":
        "the clone fails at 200 queries: SystemExit: 0",
    "self.clone = [1]; self.rest(oracle, kit)": "expected a torch module as clone, got list",
}  # fmt: skip


def test_every_fault_of_an_attacker_is_the_error_of_its_episode_and_the_match_goes_on(scenario):
    result, events = played(scenario(list(FAULTS)))
    *faulty, last = result.episodes
    for row, expected in zip(faulty, FAULTS.values(), strict=True):
        assert row.status == "error"
        assert (row.error or "").startswith(expected)
        assert row.queries_used >= 50
        faults = [event for event in events[row.id] if event.kind == "error"]
        assert "Traceback" in faults[0].data["traceback"]
    assert last.status == "success"
    assert result.failed


def test_a_broken_clone_counts_though_the_attacker_catches_its_fault(scenario):
    how = "good, self.clone = self.clone, Broken(ValueError('early'))\n" \
          "try:\n    self.rest(oracle, kit)\nexcept Exception:\n    self.clone = good\n" \
          "self.rest(oracle, kit)"  # fmt: skip
    result, _ = played(scenario([how]))
    row = result.episodes[0]
    assert (row.status, row.error) == (
        "error", "the clone fails at 100 queries: ValueError: early"
    )  # fmt: skip
    assert row.clone_accuracy is not None
    assert row.queries_used == 200


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("None", "carried_state(): expected a mapping, got NoneType"),
        ("'Note'", "notes(): expected a list of Note, got one of str"),
        ("len('Note')", "notes(): expected a list of Note, got int"),
        ("[Note('kind', 'm', -1)]", "notes() 'kind': answered: expected a whole number from 0 to"),
        ("[Note('kind', 'm', 10**400)]", "notes() 'kind': answered: expected a whole number from"),
        ("[Note('k' * 201, 'm', 1)]", "notes(): kind: expected at most 200 characters, got 201"),
        ("[Note('latencies', 'm', 1)]", "notes(): kind: 'latencies' is what the other player says"),
        ("[Note('carried_state', 'm', 1)]", "notes(): kind: 'carried_state' is what the arena"),
        ("raise SystemExit(os._exit(3))", "SystemExit: os._exit(3)"),
        ("{'past': object()}", "carried_state(): expected JSON values"),
        ("[Note('kind', 'm', 1, {'x': object()})]", "notes() 'kind': expected JSON values"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_fault_of_a_defender_is_an_error_and_keeps_what_was_measured(scenario, how, expected):
    result, events = played(scenario([""], defender=how))
    (row,) = result.episodes
    assert row.status == "error"
    assert (row.error or "").startswith(expected)
    assert any("traceback" in event.data for event in events[row.id])
    assert (row.clone_accuracy is None) == how.startswith("raise")


INTERRUPT = "KeyboardInterrupt: no message"


@pytest.mark.parametrize(
    ("attacker", "defender", "expected", "used"),
    [
        ("raise KeyboardInterrupt", None, INTERRUPT, 50),
        ("self.clone = Broken(KeyboardInterrupt()); self.rest(oracle, kit)", None,
         f"the clone fails at 100 queries: {INTERRUPT}", 100),
        ("self.rest(oracle, kit); self.clone = Broken(KeyboardInterrupt())", None,
         f"the clone fails at 200 queries: {INTERRUPT}", 200),
        ("", "raise KeyboardInterrupt", INTERRUPT, None),
        ("self.rest(oracle, kit)", "if self.asked == 150: raise KeyboardInterrupt", INTERRUPT, 100),
    ],
    ids=["attack", "checkpoint", "final clone", "begin", "act"],
)  # fmt: skip
def test_a_players_own_interrupt_is_a_fault_like_any_other(
    scenario, attacker, defender, expected, used
):
    with stopping():
        result, _ = played(scenario([attacker], defender=defender))
    row = result.episodes[0]
    assert (row.status, row.error, row.queries_used) == ("error", expected, used)
    assert not result.interrupted


@pytest.mark.parametrize("fault", ["ValueError('sick')", "BudgetExhausted('I am done')"])
@pytest.mark.parametrize("caught", ["BaseException", "()"], ids=["caught", "not caught"])
def test_a_defender_that_fails_in_a_round_ends_the_game_and_that_round_costs_nothing(
    scenario, fault, caught
):
    attacker = f"self.insist(oracle, kit, {caught})"
    defender = f"if self.asked == 150: raise {fault}"
    result, _ = played(scenario([attacker], defender=defender))
    (row,) = result.episodes
    assert row.status == "error"
    assert row.error in ("ValueError: sick", "I am done")
    assert (row.queries_used, row.attack_answered) == (100, 100)
    assert row.clone_accuracy is not None
    with Log.open(scenario([attacker], defender=defender).with_suffix(".db")) as log:
        assert [one for one in check(log) if one.kind == "fault"] == []


@pytest.mark.slow
def test_a_worker_that_a_player_ends_fails_its_episode_alone(scenario):
    result, _ = played(scenario(["os.kill(os.getpid(), 9)"]), workers=2)
    assert [row.status for row in result.episodes] == ["error", "success"]
    assert result.failed


@pytest.mark.slow
def test_a_process_that_a_player_ends_leaves_a_row_that_the_next_opening_closes(scenario):
    path = scenario(["os.kill(os.getpid(), 9)"])
    words = ["-m", "arena.cli", "run", str(path), "--log", str(path.with_suffix(".db")), "-q"]
    assert subprocess.run([sys.executable, *words], check=False).returncode == -9
    with Log.open(path.with_suffix(".db")) as log:
        (row,) = log.episodes(EpisodeFilter())
    assert row.status == "error"
    assert "died" in row.error


def test_rows_that_cannot_be_written_end_their_episode_only(scenario, monkeypatch):
    finish = EpisodeWriter.finish

    def refuse(writer, status, outcome=None, *, error=None):
        if status == "success" and not refused:
            refused.append(writer.id)
            raise TypeError("no plain form")
        finish(writer, status, outcome, error=error)

    refused: list[str] = []
    monkeypatch.setattr(EpisodeWriter, "finish", refuse)
    result, _ = played(scenario(["self.rest(oracle, kit)"]))
    assert [row.status for row in result.episodes] == ["error", "success"]
    assert result.episodes[0].error == ("the last rows cannot be written: TypeError: no plain form")


def test_what_a_player_changes_in_the_process_is_set_back_and_noted(scenario):
    before = ProcessState.capture()
    how = "torch.set_grad_enabled(False); torch.set_default_dtype(torch.float64); os.chdir('/')\n" \
          "nn.functional.relu = lambda x: x * 0; nn.Linear.forward = lambda self, x: x\n" \
          "torch.autocast('cpu').__enter__()\n" \
          "torch.optim.Adam.step = None; Attacker.resume = None\n" \
          "nn.modules.module.register_module_forward_hook(lambda *_: torch.zeros(()))\n" \
          "torch.utils._python_dispatch.TorchDispatchMode().__enter__()"  # fmt: skip
    result, events = played(scenario([how]))
    assert not ProcessState.capture().settings_changed_since(before)
    alone, _ = played(scenario(["self.rest(oracle, kit)"]), fresh=True)
    assert result.episodes[1].clone_accuracy == alone.episodes[1].clone_accuracy
    (note,) = [one for one in events[result.episodes[0].id] if one.kind == "process-state"]
    assert {"gradient mode", "default dtype", "working folder", "torch.nn.functional.relu",
            "autocast on cpu", "torch.optim.adam.Adam.step", "agents.base.Attacker.resume",
            "hooks _global_forward_hooks", "dispatch modes of torch",
            } <= set(note.data["changed"])  # fmt: skip
    assert torch.is_grad_enabled()


def test_what_players_print_does_not_reach_standard_output(scenario, capfd):
    how = "print('one'); os.system('echo two'); os.write(1, b'three'); " \
          "sys.__stdout__.write('four'); self.rest(oracle, kit)"  # fmt: skip
    played(scenario([how]))
    told = capfd.readouterr()
    assert told.out == ""
    assert all(word in told.err for word in ("two", "three"))
    assert os.getcwd()
