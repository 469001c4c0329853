"""What a hostile process can say on the line: nothing of it reaches the game, and none runs."""

import json
import os
import pickle
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from agents.base import Kit
from agents.defenders.static import Static
from arena.isolation import attacker as isolated
from arena.isolation import launch
from arena.isolation import program as programs
from arena.isolation.channel import Channel
from arena.isolation.job import Network, Player
from arena.log.player_values import checked_numbers
from arena.runner import events
from envs.defences.base import Defence, DeployedDefence
from envs.errors import ArenaError, PlayerError
from envs.game.clocks import Untimed
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.nets.multi_exit import MultiExit
from envs.nets.registry import build
from envs.seeding import Streams
from envs.training.evaluation import clone_labels
from envs.types import ThreatModel
from envs.victim.victim import Victim

SHAPE, CLASSES, BUDGET = (1, 8, 8), 10, 100


def network():
    return build("mlp-small", num_classes=CLASSES, image_shape=SHAPE, generator=torch.Generator())


@pytest.fixture
def game():
    victim = Victim(MultiExit(network(), ()))
    deployed = [DeployedDefence("none", Defence(), victim)]
    threat = ThreatModel(CLASSES, SHAPE, BUDGET)
    return ExtractionGame(threat, deployed, Static(), clock=Untimed(), streams=Streams(0))


@pytest.fixture
def against(monkeypatch, game):
    """Play a hostile function in place of a process; returns the attacker and its last answer."""
    threads = []

    def run(hostile):
        ours, theirs = socket.socketpair()
        shared = os.memfd_create("shared")
        far = Channel(theirs, os.dup(shared), None)
        answers = []

        def child():
            far.send("hello", gap="")
            far.receive()
            far.send("ready")
            try:
                answers.append(hostile(far))
            finally:
                far.close()

        def start(*_, **__):
            threads.append(threading.Thread(target=child))
            threads[-1].start()
            process = SimpleNamespace(pid=2**22, returncode=0, wait=lambda *_: 0)
            return launch.Started(process, Channel(ours, shared), Path(), None)

        monkeypatch.setattr(isolated.launch, "start", start)
        monkeypatch.setattr(isolated.launch, "end", lambda started: started.channel.close())
        contestant = isolated.Contestant(
            Player("noise", {}), "hostile", (), Network("mlp-small", {}, (0.5,), (0.5,)),
            network, torch.Generator(), (), 2**30, lambda gap: None,
        )  # fmt: skip
        attacker = isolated.IsolatedAttacker(contestant)
        writer = SimpleNamespace(event=lambda *_, **__: None)
        notes = events.EpisodeEvents(writer, game, before=None)
        kit = Kit(
            torch.device("cpu"), torch.Generator(), network,
            on_report=lambda values: checked_numbers(values, "kit.report"),
            on_note=notes.say,
        )  # fmt: skip
        try:
            oracle = GameOracle(game)
            attacker.start(oracle, kit)
            attacker.attack(oracle, kit)
            # the rest of what it hands over, while it still answers
            attacker.handed = attacker.clone
        finally:
            attacker.close()
            for one in threads:
                one.join(10)
        return attacker, answers

    return run


def raw(data):
    def hostile(channel):
        channel._line.sendall(data)

    return hostile


def framed(text):
    return raw(len(text).to_bytes(4, "big") + text)


def says(say, **fields):
    return lambda channel: channel.send(say, **fields)


BREAKS = {
    "overlong": (raw(b"\x7f\xff\xff\xff"), "2147483647 bytes"),
    "no_json": (framed(b"{"), "no JSON"),
    "deep_json": (framed(b"[" * 200_000), "no JSON"),
    "long_number": (framed(b'{"say":"query","count":' + b"9" * 9000 + b"}"), "no JSON"),
    "no_object": (framed(b"[]"), "says nothing"),
    "no_word": (framed(b'{"say":["query"]}'), "says nothing"),
    "half_a_message": (raw(b"\0\0\0\7{"), "exit code 0"),
    "out_of_turn": (says("answer"), "out of turn"),
    "count_below_0": (says("query", count=-1), "no count"),
    "count_of_text": (says("query", count="4"), "no count"),
    "count_true": (says("query", count=True), "no count"),
    "no_images": (says("query", count=4), "shorter"),
    "report_of_list": (says("report", values=[1]), "no table"),
    "report_of_text": (says("report", values={"loss": "high"}), "expected numbers"),
    "note_of_list": (says("note", kind="a", message="b", data=[]), "no table"),
    "note_of_number": (says("note", kind=1, message="b", data={}), "no text"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_no_message_ends_the_episode_in_one_line(against, promises, game, name):
    hostile, fragment = BREAKS[name]
    with pytest.raises(PlayerError) as fault:
        against(hostile)
    assert fragment in str(fault.value)
    assert "\n" not in str(fault.value)
    assert game.used == 0
    assert name not in promises or not promises[name].isolated


def asked(channel, tensor, count, **more):
    channel.put(tensor)
    channel.send("query", count=count, **more)
    answer = channel.receive()
    channel.send("ended", how="returned", inferred=None)
    channel.receive()
    channel.send("clone", form="none")
    return answer


@pytest.mark.parametrize("count", [BUDGET + 1, 2**31, 2**62])
def test_a_count_beyond_the_budget_is_refused_unread(against, promises, game, count):
    _, (answer,) = against(lambda channel: asked(channel, torch.zeros(1), count))
    assert answer["kind"] == "BudgetExhausted"
    assert game.used == 0
    assert not promises["huge_count"].isolated


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 2.0])
def test_values_that_are_no_images_are_refused(against, promises, game, value):
    _, (answer,) = against(lambda line: asked(line, torch.full((4, *SHAPE), value), 4))
    assert answer["kind"] == "QueryError"
    assert game.used == 0
    assert not promises["no_image_values"].isolated


@pytest.mark.parametrize("account", [1, -1, 2**70, 0.0, True, "0", [0], {"account": 0}])
def test_an_account_that_is_none_is_refused(against, promises, game, account):
    _, (answer,) = against(lambda line: asked(line, torch.zeros(4, *SHAPE), 4, account=account))
    assert answer["kind"] == "QueryError"
    assert "account" in answer["text"]
    assert game.used == 0
    assert not promises["no_account"].isolated


def test_no_images_are_refused(against, game):
    _, (answer,) = against(lambda channel: asked(channel, torch.zeros(1), 0))
    assert (answer["kind"], game.used) == ("QueryError", 0)


def test_what_was_read_does_not_change_with_the_file(promises):
    ends = socket.socketpair()
    file = os.memfd_create("shared")
    with ends[1]:
        channel = Channel(ends[0], file)
        channel.put(torch.ones(4))
        tensor, _ = channel.get((4,), torch.float32)
        channel.put(torch.zeros(4))
        os.ftruncate(file, 0)
        assert tensor.tolist() == [1.0] * 4
        channel.close()
    assert not promises["changed_after_reading"].isolated


def test_a_flood_of_notes_ends_the_episode(against, promises, monkeypatch):
    monkeypatch.setattr(events, "NOTES", 20)

    def flood(channel):
        for _ in range(21):
            channel.send("note", kind="a", message="b", data={})

    with pytest.raises(PlayerError, match="more than 20 notes"):
        against(flood)
    assert not promises["note_flood"].isolated


@pytest.mark.parametrize("inferred", [1, [], {"depth": 3, "nonsense": 1}, "resnet"])
def test_a_guess_that_is_none_is_refused(against, promises, inferred):
    attacker, _ = against(ends_with({"form": "none"}, inferred=inferred))
    with pytest.raises(PlayerError, match="expected an ArchitectureGuess"):
        _ = attacker.inferred
    assert not promises["odd_guess"].isolated


def ends_with(clone, weights=b"", steps=b"", inferred=None):
    def hostile(channel):
        channel.send("ended", how="returned", inferred=inferred)
        channel.receive()
        channel.put_bytes(weights + steps)
        channel.send("clone", **{"weights": len(weights), "steps": len(steps)} | clone)

    return hostile


def tensors(**named):
    return safetensors.torch.save(named)


STATE = {name: tensor.clone() for name, tensor in network().state_dict().items()}
FIRST = next(iter(STATE))


class Runs:
    """A pickle that would write a file."""

    def __reduce__(self):
        return os.mkdir, ("pickle-ran",)


WEIGHTS = {
    "pickle": pickle.dumps(Runs()),
    "no_weights": b"",
    "noise_as_weights": bytes(range(256)) * 8,
    "huge_header": (2**60).to_bytes(8, "little") + b"{}",
    "huge_shape": b"\x48" + bytes(7) + b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],'
    b'"data_offsets":[0,4]}}  ' + bytes(4),
    "other_names": tensors(a=torch.zeros(3)),
    "one_missing": tensors(**{k: v for k, v in STATE.items() if k != FIRST}),
    "one_more": tensors(**STATE, more=torch.zeros(1)),
    "other_shape": tensors(**STATE | {FIRST: torch.zeros(1)}),
    "other_dtype": tensors(**STATE | {FIRST: STATE[FIRST].double()}),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_another_kind_are_refused_in_one_line(
    against, promises, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlayerError) as fault:
        against(ends_with({"form": "handed over"}, WEIGHTS[name]))
    assert "\n" not in str(fault.value)
    assert "scenario's own network" in str(fault.value)
    assert not (tmp_path / "pickle-ran").exists()
    assert name not in promises or not promises[name].isolated


def test_weights_of_the_scenarios_network_are_scored(against):
    attacker, _ = against(ends_with({"form": "handed over"}, tensors(**STATE)))
    assert torch.equal(attacker.handed.state_dict()[FIRST], STATE[FIRST])


@pytest.mark.parametrize("sizes", [{"weights": 2**40}, {"steps": 2**40}, {"weights": -1}])
def test_a_clone_of_absurd_size_is_refused_unread(against, promises, sizes):
    with pytest.raises(ArenaError):
        against(ends_with({"form": "handed over", **sizes}))
    assert not promises["huge_clone"].isolated


def test_a_clone_that_takes_more_than_the_attacker_may_is_refused_unread(against):
    with pytest.raises(PlayerError, match="is too large"):
        against(ends_with({"form": "handed over", "weights": 2**30 + 1}))


def program(*steps, output="out"):
    return json.dumps({"steps": steps, "output": output}).encode()


IN = {"value": "images"}
LARGE = ["z", "aten.zeros.default", [[2**20, 2**20]], {"device": {"device": None}}]
PROGRAMS = {
    "system_call": program(["out", "os.system", ["true"], {}]),
    "torch_function": program(["out", "torch.load", ["x"], {}]),
    "from_file": program(["out", "aten.from_file.default", ["/etc/passwd"], {}]),
    "strided": program(["out", "aten.as_strided.default", [IN, [9], [9]], {}]),
    "short_statistics": program(
        ["f", "aten.ones.default", [[1]], {}],
        [
            "out",
            "aten._native_batch_norm_legit_no_training.default",
            [IN, *[{"value": "f"}] * 4, 0.1, 1e-5],
            {},
        ],
    ),
    "into_another": program(["out", "aten.add.out", [IN, IN], {"out": IN}]),
    "large_values": program(LARGE, ["out", "aten.sum.default", [{"value": "z"}], {}]),
    "large_number": program(
        *(
            [f"n{i}", "number.mul", [{"value": f"n{i - 1}"}] * 2 if i else [2**40, 2], {}]
            for i in range(12)
        ),
        ["out", "aten.add.Tensor", [IN, {"value": "n11"}], {}],
    ),
    "repeated_list": program(["out", "number.mul", [[0] * 9, 2**40], {}]),
    "unknown_value": program(["out", "aten.relu.default", [{"value": "nowhere"}], {}]),
    "unknown_output": program(["a", "aten.relu.default", [IN], {}]),
    "no_steps": b'{"steps": 3, "output": "images"}',
    "many_steps": program(*[["a", "aten.relu.default", [IN], {}]] * 20_001),
    "bad_json": b"[" * 100_000,
    "wrong_position": program(
        ["i", "aten.full.default", [[1], 10**6], {"dtype": {"dtype": "int64"}}],
        ["out", "aten.index_select.default", [IN, 0, {"value": "i"}], {}],
    ),
    "wrong_size": program(["out", "aten.unsqueeze.default", [IN, 0], {}]),
    "not_finite": program(
        ["f", "aten.flatten.using_ints", [IN, 1], {}],
        ["s", "aten.slice.Tensor", [{"value": "f"}, 1, 0, CLASSES], {}],
        ["out", "aten.add.Tensor", [{"value": "s"}, {"number": "nan"}], {}],
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_would_do_more_than_compute_gets_no_score(against, promises, name):
    def scored():
        attacker, _ = against(ends_with({"form": "handed over"}, tensors(), PROGRAMS[name]))
        clone_labels(attacker.handed, torch.rand(3, *SHAPE), CLASSES)

    with pytest.raises((PlayerError, RuntimeError, IndexError, TypeError, OverflowError)):
        scored()
    assert name not in promises or not promises[name].isolated


def test_a_program_is_scored(against):
    steps = program(
        ["f", "aten.flatten.using_ints", [IN, 1], {}],
        ["out", "aten.slice.Tensor", [{"value": "f"}, 1, 0, CLASSES], {}],
    )
    attacker, _ = against(ends_with({"form": "handed over"}, tensors(), steps))
    images = torch.rand(5, *SHAPE)
    expected = images.flatten(1)[:, :CLASSES].argmax(1)
    assert torch.equal(clone_labels(attacker.handed, images, CLASSES), expected)


def test_another_message_in_place_of_the_clone_is_refused(against, promises):
    def hostile(channel):
        channel.send("ended", how="returned", inferred=None)
        channel.receive()
        channel.send("query", count=1)

    with pytest.raises(PlayerError, match="instead of a clone"):
        against(hostile)
    assert not promises["query_for_clone"].isolated


def test_every_cheat_of_the_page_is_played_by_a_test(promises):
    here = Path(__file__).parent
    text = "".join(file.read_text(encoding="utf-8") for file in here.glob("*.py"))
    assert len(promises) >= 40
    assert [name for name in promises if name not in text] == []
    assert [name for name, row in promises.items() if row.isolated] == []


def test_a_program_is_held_to_the_time_that_it_computes(monkeypatch):
    clock = SimpleNamespace(now=0.0, step=0.0)

    def monotonic():
        clock.now += clock.step
        return clock.now

    monkeypatch.setattr(programs.time, "monotonic", monotonic)
    text = program(["out", "aten.flatten.using_ints", [IN, 1], {}])
    clone, images = programs.Program(text, {}, torch.device("cpu")), torch.rand(2, *SHAPE)
    clone(images)
    clock.now += 10_000  # of the attack, between two looks at the clone
    clone(images)
    clock.step = 250.0
    clone(images)  # 500 of its 600 seconds
    with pytest.raises(PlayerError, match="takes longer"):
        clone(images)
