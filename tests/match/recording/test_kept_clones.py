"""Clones that are kept beside the log, and networks made of them."""

import json

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import arena
from agents.attackers.noise import Noise
from arena.cli.app import app
from arena.log.store import Log
from arena.recording.kept_clones import export_clone, kept_clone, load_clone
from arena.replay.verify import verify
from arena.runner.match import play
from arena.runner.progress import Watcher
from arena.scenario import load
from envs.data.sources import load as load_data
from envs.errors import ArenaError, LogError, ScenarioError

KEPT = {"keep": ["clone"], "threat": {"budget": 200}, "checkpoints": 1}


class Doubled(torch.nn.Module):
    """Another network than the scenario's: what it learnt, and a layer of its own."""

    def __init__(self, learnt):
        super().__init__()
        self.learnt, self.last = learnt, torch.nn.Linear(10, 10)

    def forward(self, images):
        return self.learnt(images) + 0.01 * self.last(images.flatten(1)[:, :10])


class Deep(Noise):
    """Hands over that one."""

    def attack(self, oracle, kit):
        super().attack(oracle, kit)
        self.clone = Doubled(self.clone)


class Branching(torch.nn.Module):
    """What depends on its input as no exported program can."""

    def __init__(self, learnt):
        super().__init__()
        self.learnt = learnt

    def forward(self, images):
        return self.learnt(images) * (2 if float(images.sum()) > 3 else 1)


class Odd(Noise):
    """Hands over that one."""

    def attack(self, oracle, kit):
        super().attack(oracle, kit)
        self.clone = Branching(self.clone)


@pytest.fixture
def played(tmp_path, tiny_file):
    """Play the tiny scenario, which keeps clones; gives its row."""

    def run(attacker="noise", **changes):
        use = attacker if attacker == "noise" else f"{__file__}:{attacker}"
        path = tiny_file(attackers=[{"use": use}], **{**KEPT, **changes})
        with Log.open(tmp_path / "a.db") as log:
            (row,) = play(load(str(path)), log=log).episodes
        assert row.status == "success", row.error
        return row

    return run


def accuracy(network):
    test = load_data("digits").test
    with torch.no_grad():
        hits = network(test.images(slice(None))).argmax(1) == test.labels
    return float(hits.float().mean())


@pytest.mark.parametrize("attacker", ["noise", "Deep"])
def test_a_kept_clone_answers_as_the_one_that_was_scored(played, tmp_path, attacker):
    row = played(attacker)
    with arena.open_log(tmp_path / "a.db") as log:
        assert accuracy(log.clone(row.id)) == pytest.approx(row.clone_accuracy, abs=1e-6)
        export_clone(kept_clone(log._log, row.id), tmp_path / "c.pt2")
    program = torch.export.load(tmp_path / "c.pt2").module()
    assert accuracy(program) == pytest.approx(row.clone_accuracy, abs=1e-6)


@pytest.mark.slow
def test_what_an_isolated_attacker_hands_over_is_kept(played, tmp_path):
    rows = [played("Deep"), played("Deep", isolation="process", seeds=[0], checkpoints=2)]
    with arena.open_log(tmp_path / "a.db") as log:
        for row in rows:
            assert accuracy(log.clone(row.id)) == pytest.approx(row.clone_accuracy, abs=1e-6)


def test_a_clone_that_cannot_be_kept_is_told_and_its_episode_counts(played, tmp_path):
    row = played("Odd")
    with Log.open(tmp_path / "a.db") as log:
        (event,) = [event for event in log.events(row.id) if event.kind == "not-kept"]
        assert "torch.export" in event.message
        with pytest.raises(LogError, match="has no clone"):
            kept_clone(log, row.id)


def test_the_command_writes_weights_or_a_program_that_can_be_a_victim(played, tmp_path, tiny_file):
    row, log = played(), str(tmp_path / "a.db")

    def run(*words):
        return CliRunner().invoke(app, ["episodes", "clone", row.id[:6], "--log", log, *words])

    for name in ("c.safetensors", "c.pt2"):
        assert run("-o", str(tmp_path / name)).exit_code == 0
    assert safetensors.torch.load_file(tmp_path / "c.safetensors")
    load(str(tiny_file(victim={"use": str(tmp_path / "c.pt2"), "recipe": {}}))).check()
    for name, said in (("c.onnx", "expected --out FILE.safetensors or FILE.pt2"),
                       ("no/c.pt2", "No such file or directory")):  # fmt: skip
        told = run("-o", str(tmp_path / name))
        assert (told.exit_code, said in " ".join(told.output.split())) == (2, True)


def test_a_file_that_is_gone_altered_or_none_is_refused(played, tmp_path):
    row = played()
    with Log.open(tmp_path / "a.db") as log:
        path = kept_clone(log, row.id)
        whole = path.read_bytes()
        path.write_bytes(whole[:-4] + bytes(4))
        with pytest.raises(LogError, match="was altered"):
            kept_clone(log, row.id)
        path.unlink()
        with pytest.raises(LogError, match="is gone"):
            kept_clone(log, row.id)
    for content in (b"", b"x" * 100, safetensors.torch.save({"a": torch.zeros(1)})):
        path.write_bytes(content)
        with pytest.raises(ArenaError, match="expected a clone that was kept"):
            load_clone(path)
    form = {"use": "net.py:Mine", "params": {}, "num_classes": 10, "image_shape": [1, 8, 8]}
    told = {"form": json.dumps(form), "steps": ""}
    path.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}, told))
    with pytest.raises(ScenarioError, match="trust-plugins"):
        load_clone(path)


def test_keeping_is_part_of_an_episode_s_identity_only_where_it_is_asked_for(tiny_file):
    plain, kept = (load(str(tiny_file(**changes))).plans()[0] for changes in ({}, KEPT))
    assert "keep" not in plain.model_dump(mode="json")
    assert kept.model_dump(mode="json")["keep"] == ["clone"]


def test_verifying_keeps_no_clone_and_a_log_that_is_no_file_is_refused(played, tmp_path, tiny_file):
    row, lines = played(), []
    watcher = Watcher()
    watcher.line = lines.append
    with Log.open(tmp_path / "a.db") as log:
        assert verify(log, row.id, watcher=watcher).same
    assert not [line for line in lines if "clone" in line]
    with (
        Log.open("sqlite://") as log,
        pytest.raises(ScenarioError, match=r"keep = .* is no file; .* \(--set keep=\[\]\)"),
    ):
        play(load(str(tiny_file(**KEPT))), log=log)
