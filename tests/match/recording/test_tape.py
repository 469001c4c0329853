"""Tapes are written in shards: in order, on a thread, and whole or not at all."""

import gc
import queue
import signal
import threading
import time

import numpy as np
import pytest
import torch

from arena.log import artifacts
from arena.recording import shards
from arena.recording.tape import Tape
from envs.errors import LogError
from envs.game.rounds import AnsweredRequest, Countermeasure, Round


def a_round(images):
    """A round whose answers are made of the first pixel of each image."""
    first = images[:, 0, 0, :1]
    answers = torch.cat([first, 1 - first], 1)
    exits = torch.zeros(len(images), dtype=torch.int64)
    return Round(0, AnsweredRequest(images, 0, Countermeasure(), answers, exits), (), answers)


def a_tape(tmp_path):
    return Tape(str(tmp_path / "arena.db"), "abc", queries=True)


def test_shards_are_cut_at_rounds_and_read_back_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 1000)
    tape = a_tape(tmp_path)
    generator = torch.Generator().manual_seed(0)
    asked = [torch.rand(n, 1, 4, 4, generator=generator) for n in (7, 1, 12, 3, 9, 2)]
    rounds = [a_round(images) for images in asked]
    for round in rounds:
        tape.on_round(round)
    tape.close()
    rows = [row for row in tape.finished() if row.kind == "queries"]
    # 72 bytes a query: 7+1+12 pass 1000 bytes, 3+9+2 do at the last
    assert [row.meta["queries"] for row in rows] == [20, 14]
    for row in rows:
        assert artifacts.digest(tmp_path / row.path) == row.sha256
    stored = [np.load(tmp_path / row.path) for row in rows]
    assert torch.equal(torch.from_numpy(np.concatenate([one["images"] for one in stored])),
                       torch.cat(asked))  # fmt: skip
    assert torch.equal(torch.from_numpy(np.concatenate([one["posteriors"] for one in stored])),
                       torch.cat([round.given for round in rounds]))  # fmt: skip
    assert [one["rounds"].tolist() for one in stored] == [[7, 1, 12], [3, 9, 2]]


def test_what_an_attacker_does_to_its_tensors_afterwards_is_not_on_the_tape(tmp_path):
    tape = a_tape(tmp_path)
    images = torch.full((4, 1, 4, 4), 0.25)
    tape.on_round(a_round(images))
    images.fill_(0.75)
    tape.close()
    (row,) = [row for row in tape.finished() if row.kind == "queries"]
    with np.load(tmp_path / row.path) as arrays:
        assert (arrays["images"] == 0.25).all()


def test_the_sample_is_of_the_latest_round_in_whatever_mode_it_was_asked(tmp_path):
    tape = a_tape(tmp_path)
    for grey, inference in ((1, False), (2, True), (3, False), (4, True), (5, False)):
        with torch.inference_mode(inference):
            tape.on_round(a_round(torch.full((2 if grey < 5 else 1, 1, 4, 4), grey / 255)))
        tape.sample(grey)
    kept = [(used, pixels.unique().tolist(), len(pixels)) for used, pixels in tape._samples]
    assert kept == [(grey, [grey], 2 if grey < 5 else 1) for grey in range(1, 6)]
    tape.close()


def test_the_game_waits_for_a_slow_disk_instead_of_filling_the_memory(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    write = np.savez_compressed
    monkeypatch.setattr(
        np, "savez_compressed", lambda file, **arrays: gate.wait(30) and write(file, **arrays)
    )
    tape = a_tape(tmp_path)
    asked = []

    def ask():
        for _ in range(3 * shards.WAITING):
            tape.on_round(a_round(torch.rand(1, 1, 4, 4)))
            asked.append(1)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(1.0)
    # those that wait, the one being written, and the one that cannot be put down
    assert thread.is_alive()
    assert shards.WAITING <= len(asked) <= shards.WAITING + 2
    gate.set()
    thread.join(30)
    tape.close()
    assert len([row for row in tape.finished() if row.kind == "queries"]) == 3 * shards.WAITING


def test_an_interrupt_at_any_moment_leaves_a_tape_that_can_be_closed(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # an interrupt inside a callback of the collector is lost
    round = a_round(torch.rand(1, 1, 4, 4))
    try:
        for trial in range(150):
            tape = Tape(str(tmp_path / "arena.db"), str(trial), queries=True)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 + 2e-5 * trial)
                # not for ever: an interrupt that falls into a destructor is lost
                enough = time.monotonic() + 1.0
                while time.monotonic() < enough:
                    tape.on_round(round)
            except KeyboardInterrupt:
                pass
            closing = threading.Thread(target=tape.close, daemon=True)
            closing.start()
            closing.join(60)
            assert not closing.is_alive(), trial
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()


def test_a_disk_that_refuses_is_told_and_leaves_no_half_a_file(tmp_path, monkeypatch):
    def refuse(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", refuse)
    tape = a_tape(tmp_path)
    tape.on_round(a_round(torch.rand(1, 1, 4, 4)))
    with pytest.raises(LogError, match=r"cannot write queries to .*: No space left on device"):
        tape.close()
    assert list(tape.finished()) == []
    assert list((tmp_path / "arena.db.artifacts" / "abc").iterdir()) == []


def test_on_a_full_disk_the_game_goes_on_without_a_tape(tmp_path, monkeypatch):
    def refuse(file, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    monkeypatch.setattr(np, "savez_compressed", refuse)
    tape = a_tape(tmp_path)
    for _ in range(200):  # the fault is known after some of them
        tape.on_round(a_round(torch.rand(1, 1, 4, 4)))
    state = tape.state()
    assert state["shards"] is None
    with pytest.raises(LogError, match="No space left on device"):
        tape.close()
    monkeypatch.undo()
    again = a_tape(tmp_path)  # resumed, it does not begin in the middle
    again.restore(state)
    again.on_round(a_round(torch.rand(1, 1, 4, 4)))
    with pytest.raises(LogError, match="could not be written"):
        again.close()
    assert not [row for row in again.finished() if row.kind == "queries"]


def test_a_round_that_does_not_fit_into_memory_is_told_and_nobody_waits(tmp_path, monkeypatch):
    def refuse(round):
        raise MemoryError("no room")

    monkeypatch.setattr(shards, "_on_host", refuse)
    writer = shards.ShardWriter("arena.db", tmp_path, queue.SimpleQueue())
    writer.put(shards.RecordedRound(torch.zeros(3, 1, 4, 4), torch.zeros(3, 2)))
    with pytest.raises(LogError, match="no room"):
        writer.held()
    with pytest.raises(LogError, match="no room"):
        writer.close()


def test_a_save_between_two_rounds_does_not_move_where_shards_end(tmp_path):
    rounds = [a_round(torch.rand(3, 1, 4, 4)) for _ in range(4)]
    seen = []
    for name, saved_at in (("straight", None), ("resumed", 2)):
        tape = a_tape(tmp_path / name)
        for number, round in enumerate(rounds):
            if number == saved_at:
                state = tape.state()
                assert len(state["held"]) == 2
                tape.on_round(a_round(torch.rand(5, 1, 4, 4)))  # lost with the process
                tape.close()
                tape = a_tape(tmp_path / name)
                tape.restore(state)
            tape.on_round(round)
        tape.close()
        (row,) = [row for row in tape.finished() if row.kind == "queries"]
        seen.append((row.sha256, row.bytes, row.meta))
    assert seen[0] == seen[1]


def test_whoever_goes_on_removes_what_was_written_after_and_what_a_kill_left_unfinished(tmp_path):
    names = ("queries-00000.npz", "queries-00001.npz", ".queries-00001.npz.0a1b2c3d.part")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    writer = shards.ShardWriter("log.db", tmp_path, queue.SimpleQueue())
    writer.go_on(1, ())
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["queries-00000.npz"]


def test_a_log_that_is_no_file_keeps_nothing():
    tape = Tape("sqlite://", "abc", queries=True)
    tape.on_round(a_round(torch.rand(1, 1, 4, 4)))
    tape.sample(3)
    tape.close()
    assert list(tape.finished()) == []


# What-ifs
