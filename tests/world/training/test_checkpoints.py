"""The cache: what comes out is what went in, or nothing does."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from envs.errors import CacheError
from envs.training import checkpoint_file
from envs.training.checkpoint_file import Stored
from envs.training.checkpoints import (
    cache_root,
    content_key,
    recall,
    remember,
    require_writable,
    store,
)

SPEC = {"network": "tiny", "seed": 0, "recipe": {"rate": 0.1, "epochs": 3}}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ARENA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(value: float = 1.5) -> Stored:
    state = {
        "weight": torch.full((2, 3), value),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "batches": torch.tensor(7),
    }
    return Stored(state, {"accuracy": 0.1 + 0.2, "curve": [1, 2], "note": "é"})


def same(one: Stored, two: Stored) -> bool:
    return one.state.keys() == two.state.keys() and all(
        torch.equal(one.state[k], two.state[k]) and one.state[k].dtype == two.state[k].dtype
        for k in one.state
    )


def never() -> Stored:
    raise AssertionError("made again, though it was in the cache")


def test_what_was_stored_is_recalled_bit_for_bit():
    path = store("victim", SPEC, entry())
    found = recall("victim", SPEC)
    assert found is not None
    assert same(found, entry())
    assert found.meta == {"accuracy": 0.1 + 0.2, "curve": [1, 2], "note": "é"}
    assert path == cache_root() / "victim" / f"{content_key(SPEC)}.pt"


def test_what_was_never_stored_is_not_there(folder: Path):
    assert recall("victim", SPEC) is None
    store("victim", SPEC, entry())
    assert recall("exit-heads", SPEC) is None
    assert recall("victim", {**SPEC, "seed": 1}) is None


def test_the_second_time_nothing_is_made():
    first, recalled = remember("victim", SPEC, entry)
    assert not recalled
    second, recalled = remember("victim", SPEC, never)
    assert recalled
    assert same(first, second)
    assert first.meta == second.meta


def test_the_key_depends_on_every_bit_and_not_on_the_order():
    assert content_key({"a": 1, "b": [0.1, None]}) == content_key({"b": (0.1, None), "a": 1})
    specs = [
        {"a": 0.1},
        {"a": 0.1 + 2**-56},  # the next float
        {"a": 1},
        {"a": 1.0},
        {"a": True},
        {"a": "1"},
        {"a": None},
        {"b": 1},
        {"a": [1]},
    ]
    assert 0.1 + 2**-56 != 0.1
    assert len({content_key(spec) for spec in specs}) == len(specs)


def test_the_key_of_a_spec_is_the_same_for_ever():
    # the start of: printf '{"a":[1,2.5,"x"]}' | sha256sum
    assert content_key({"a": [1, 2.5, "x"]}) == "0b7427b3106796e09e253e778e8f752e"


@pytest.mark.parametrize(
    "spec", [{"a": float("nan")}, {"a": torch.ones(1)}, {1: "a"}, {"a": {2: "b"}}, {"a": {1}}]
)
def test_a_spec_that_json_cannot_tell_is_refused(spec: dict[str, object]):
    with pytest.raises(ValueError, match="plain JSON"):
        content_key(spec)  # type: ignore[arg-type]


def test_a_state_that_is_no_state_is_refused():
    with pytest.raises(TypeError, match="expected a tensor under 'a', got float"):
        store("victim", SPEC, Stored({"a": 1.0}))  # type: ignore[dict-item]


@pytest.mark.parametrize("fault", ["truncated", "flipped", "empty", "unknown", "header only"])
def test_a_damaged_file_is_set_aside_with_one_warning_and_made_again(
    fault: str, caplog: pytest.LogCaptureFixture
):
    path = store("victim", SPEC, entry())
    data = bytearray(path.read_bytes())
    if fault == "flipped":
        data[len(data) // 2] ^= 1
    damaged = {
        "truncated": data[:-10],
        "flipped": data,
        "empty": b"",
        "unknown": b"PK\x03\x04 something else",
        "header only": data[:88],
    }[fault]
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        found, recalled = remember("victim", SPEC, lambda: entry(9.0))
    assert not recalled
    assert same(found, entry(9.0))
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    assert path.with_suffix(".damaged").read_bytes() == bytes(damaged)
    assert remember("victim", SPEC, never)[1]


def test_an_entry_of_another_spec_under_this_name_is_refused(caplog: pytest.LogCaptureFixture):
    other = store("victim", {**SPEC, "seed": 1}, entry())
    wanted = other.with_name(f"{content_key(SPEC)}.pt")
    other.rename(wanted)
    assert recall("victim", SPEC) is None
    assert "another spec" in caplog.text
    assert wanted.with_suffix(".damaged").exists()


@pytest.mark.parametrize(
    "like",
    [
        {"weight": torch.zeros(2, 3)},
        {**entry().state, "weight": torch.zeros(3, 2)},
        {**entry().state, "weight": torch.zeros(2, 3, dtype=torch.float64)},
    ],
    ids=["names", "shape", "dtype"],
)
def test_tensors_that_do_not_fit_the_network_are_refused(
    like: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
):
    store("victim", SPEC, entry())
    assert recall("victim", SPEC, like=like) is None
    assert len(caplog.records) == 1
    store("victim", SPEC, entry())
    assert recall("victim", SPEC, like=entry().state) is not None


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path):
    import hashlib
    import io

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "owned"),)

    buffer = io.BytesIO()
    torch.save({"spec": "", "meta": "{}", "state": Evil()}, buffer)
    body = buffer.getvalue()
    path = store("victim", SPEC, entry())
    digest = hashlib.sha256(body).hexdigest().encode()
    path.write_bytes(b"fortress-arena cache 1 " + digest + b"\n" + body)  # with a right checksum
    assert recall("victim", SPEC) is None
    assert not (tmp_path / "owned").exists()


def test_a_write_that_dies_in_the_middle_leaves_the_old_entry(monkeypatch: pytest.MonkeyPatch):
    path = store("victim", SPEC, entry(1.0))

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        store("victim", SPEC, entry(2.0))
    monkeypatch.undo()
    # the autouse folder was undone with it
    assert checkpoint_file.decoded(path.read_bytes(), SPEC, "cpu").state["weight"][0, 0] == 1.0
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_full_disk_is_one_line_and_harms_nothing(monkeypatch: pytest.MonkeyPatch):
    store("victim", SPEC, entry(1.0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CacheError, match=r"No space left.*free space.*ARENA_CACHE") as caught:
            store("victim", SPEC, entry(2.0))
    assert "\n" not in str(caught.value)
    found = recall("victim", SPEC)
    assert found is not None
    assert same(found, entry(1.0))


def test_what_took_hours_is_not_lost_to_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    made, recalled = remember("victim", SPEC, entry)
    assert same(made, entry())
    assert not recalled
    assert "No space left on device" in caplog.text


def test_where_nothing_can_be_written_it_is_made_without_and_said_once(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    folder.write_text("a file where the folder should be")
    for kind in ("victim", "victim", "exit-heads"):
        made, recalled = remember(kind, SPEC, entry)
        assert same(made, entry())
        assert not recalled
    (record,) = caplog.records
    assert "cannot read the cache in" in record.message
    assert "going on without" in record.message
    with pytest.raises(CacheError, match=r"cannot write the cache in"):
        require_writable()


def test_an_entry_of_a_folder_that_is_only_read_is_recalled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    store("victim", SPEC, entry())

    def read_only(*_: object, **__: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(Path, "write_bytes", read_only)
    assert remember("victim", SPEC, never)[1]
    assert caplog.text == ""
    for _ in range(2):
        made, recalled = remember("another", SPEC, entry)
        assert same(made, entry())
        assert not recalled
    (record,) = caplog.records
    assert "Read-only file system" in record.message


def test_a_folder_that_can_be_written_is_left_as_it_was(folder: Path):
    require_writable()
    assert list(folder.iterdir()) == []


def test_a_view_is_stored_without_what_it_is_a_view_of():
    large = torch.zeros(1_000_000)
    path = store("victim", SPEC, Stored({"few": large[:4]}))
    assert path.stat().st_size < 10_000


def test_two_threads_that_want_one_entry_make_it_once():
    made: list[int] = []
    gate = threading.Barrier(2)
    results: list[bool] = []

    def make() -> Stored:
        made.append(1)
        threading.Event().wait(0.2)
        return entry()

    def want() -> None:
        gate.wait()
        results.append(remember("victim", SPEC, make)[1])

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted(results) == [False, True]
    assert not list(cache_root().rglob("*.lock"))


@pytest.mark.slow
def test_a_maker_that_is_killed_does_not_keep_the_others_waiting(folder: Path):
    script = (
        "import os, sys\n"
        "from envs.training.checkpoints import remember\n"
        f"spec = {SPEC!r}\n"
        "def make():\n"
        "    print('making', flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "remember('victim', spec, make)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=dict(os.environ), capture_output=True, timeout=120
    )
    assert done.stdout == b"making\n"
    assert done.returncode == -9
    made, recalled = remember("victim", SPEC, entry)
    assert not recalled
    assert same(made, entry())


def test_the_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, folder: Path):
    assert cache_root() == folder
    monkeypatch.delenv("ARENA_CACHE")
    assert "fortress-arena" in str(cache_root())
