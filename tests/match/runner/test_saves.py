"""What is saved of an episode, where it lies, and when a save is of no use."""

import io
import json
import os
from pathlib import Path

import pytest
import torch

from agents.attackers.noise import Noise
from agents.base import Attacker
from agents.learning.clone import CloneTrainer
from arena.log.episode_filter import EpisodeFilter
from arena.log.store import Log
from arena.runner import run_record
from arena.runner.match import play
from arena.runner.saves import plugin_pickles
from arena.runner.saves.changes import ChangedAttributes
from arena.runner.saves.snapshots import Snapshot, snapshot
from arena.runner.saves.store import SaveStore
from envs.defences.base import Defence
from envs.errors import PlayerError, SaveError


class Plain(Attacker):
    """No safe points."""

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        while True:
            kit.safe_point()
            oracle.query(torch.rand(50, *oracle.threat.image_shape, generator=kit.generator))


class Unwritable(Noise):
    def attack(self, oracle, kit):
        self.secret = lambda: None
        super().attack(oracle, kit)

    def resume(self, oracle, kit):
        super().resume(oracle, kit)


def test_an_attacker_without_a_resume_of_its_own_cannot_be_resumed():
    with pytest.raises(PlayerError, match="afresh"):
        Plain().resume(None, None)


def test_an_attacker_without_safe_points_starts_afresh_and_the_match_says_so(
    tmp_path, with_attacker, break_off, watcher, always
):
    wanted = with_attacker("Plain")
    with Log.open(tmp_path / "a.db") as log:
        break_off(500)
        play(wanted, log=log, saving=always)
        break_off(None)
        play(wanted, log=log, saving=always, watcher=watcher)
        assert sorted(row.status for row in log.episodes(EpisodeFilter())) == [
            "cancelled", "success",
        ]  # fmt: skip
    assert any("left no save; starting afresh" in line for line in watcher.lines)


def test_a_player_that_cannot_be_written_is_played_all_the_same_and_that_is_noted_once(
    tmp_path, with_attacker, watcher, always
):
    with Log.open(tmp_path / "a.db") as log:
        wanted = with_attacker("Unwritable")
        (row,) = play(wanted, log=log, saving=always, watcher=watcher).episodes
        kinds = [event.kind for event in log.events(row.id)]
    assert row.status == "success"
    assert kinds == ["not-saved"]
    assert [line for line in watcher.lines if "cannot be saved" in line]


@pytest.fixture
def of_a_plug_in(tmp_path, scenario):
    """The scenario of an attacker that is a plug-in, whose class alone is its own."""
    path = tmp_path / "own.py"
    path.write_text("from agents.attackers.noise import Noise\n\n\nclass Own(Noise):\n    ...\n")
    return scenario({"attackers": [{"use": f"{path}:Own"}]})


def test_one_save_lies_in_the_store_however_often_it_is_saved(broken):
    _, row, store = broken
    save = store.find(row.id)
    assert save.number > 5
    assert 500 < save.queries_used <= 600
    assert sorted(path.name for path in store.folder.iterdir()) == [
        f"{row.id}-{save.number}.pt", f"{row.id}.json",
    ]  # fmt: skip


@pytest.mark.parametrize("fault", ["damaged", "gone", "of other code"])
def test_a_save_that_cannot_be_read_is_told_and_the_episode_starts_afresh(
    broken, scenario, fault, watcher, always
):
    log, row, store = broken
    path = store.folder / store.find(row.id).file
    if fault == "damaged":
        path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    elif fault == "gone":
        path.unlink()
    else:
        save = store.find(row.id)
        other = Snapshot(False, lambda file: torch.save({"attacker": 1}, file))
        store.put(row.id, save.plan, other, queries_used=600, mark=save.mark)
    (again,) = play(scenario(), log=log, watcher=watcher).episodes
    assert (again.status, again.id != row.id) == ("success", True)
    assert log.episode(row.id).status == "cancelled"
    assert any("cannot be resumed" in line and "afresh" in line for line in watcher.lines)
    assert not store.folder.exists()


FORGED = {
    "a seal of another key": lambda store, header, cache: (cache / "saves.key").unlink(),
    "no seal": lambda store, header, cache: _change(header, seal=""),
    "another header": lambda store, header, cache: _change(header, queries_used=1),
    "a state that others may write": lambda store, header, cache: [
        path.chmod(0o666) for path in store.folder.glob("*.pt")],
    "a key that others may read": lambda store, header, cache: (cache / "saves.key").chmod(0o644),
}  # fmt: skip


def _change(header, **values):
    header.write_text(json.dumps(json.loads(header.read_text()) | values))


@pytest.mark.parametrize(
    "forgery",
    [
        pytest.param(name, marks=[] if number < 2 else [pytest.mark.slow])
        for number, name in enumerate(FORGED)
    ],
)
def test_a_plug_in_s_save_that_this_user_did_not_seal_is_not_opened(
    break_game, of_a_plug_in, watcher, always, forgery, monkeypatch
):
    log, row, store = break_game(of_a_plug_in)
    assert store.find(row.id).pickled
    cache = Path(os.environ["ARENA_CACHE"])
    kept = (cache / "saves.key").read_bytes()
    monkeypatch.setattr(
        plugin_pickles, "read", lambda file, live: pytest.fail("a stranger's code ran")
    )
    try:
        FORGED[forgery](store, store.folder / f"{row.id}.json", cache)
        (again,) = play(of_a_plug_in, log=log, watcher=watcher).episodes
    finally:
        (cache / "saves.key").write_bytes(kept)
        (cache / "saves.key").chmod(0o600)
    assert (again.status, again.id != row.id) == ("success", True)
    assert any("was not written by this user" in line for line in watcher.lines)


def test_a_plug_in_s_save_that_this_user_sealed_is_gone_on_with(break_game, of_a_plug_in, always):
    log, row, _ = break_game(of_a_plug_in)
    (again,) = play(of_a_plug_in, log=log).episodes
    assert (again.status, again.id) == ("success", row.id)


def test_a_built_in_attacker_s_save_is_no_pickle_and_needs_no_key(broken, scenario, always):
    log, row, store = broken
    save = store.find(row.id)
    assert (save.pickled, save.seal) == (False, "")
    (Path(os.environ["ARENA_CACHE"]) / "saves.key").unlink(missing_ok=True)
    (again,) = play(scenario(), log=log).episodes
    assert (again.status, again.id) == ("success", row.id)


class Hostile:
    """A pickle of it makes a file where it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("claims", [True, False], ids=["says so", "says it is none"])
def test_a_hostile_pickle_in_the_place_of_a_built_in_attacker_s_save_does_not_run(
    broken, scenario, watcher, always, tmp_path, claims
):
    log, row, store = broken
    save, mark = store.find(row.id), tmp_path / "ran"
    hostile = Snapshot(False, lambda file: torch.save(
        {"description": Hostile(mark), "tensors": []}, file))  # fmt: skip
    store.put(row.id, save.plan, hostile, queries_used=600, mark=save.mark)
    _change(store.folder / f"{row.id}.json", pickled=claims)
    (again,) = play(scenario(), log=log, watcher=watcher).episodes
    assert (again.status, again.id != row.id, mark.exists()) == ("success", True, False)
    assert any("cannot be resumed" in line and "afresh" in line for line in watcher.lines)


def test_a_save_of_another_attacker_is_not_played(broken, scenario, watcher, always):
    log, row, store = broken
    save = store.find(row.id)
    state = {"attacker": CloneTrainer.__new__(CloneTrainer)}
    store.put(row.id, save.plan, snapshot(state, {}), queries_used=600, mark=save.mark)
    (again,) = play(scenario(), log=log, watcher=watcher).episodes
    assert (again.status, again.id != row.id) == ("success", True)
    assert any("its save is of CloneTrainer, not Noise" in line for line in watcher.lines)


def test_a_full_disk_is_told_as_one_though_torch_raises_an_error_of_its_own():
    class Full(io.BytesIO):
        def write(self, content):
            if self.tell() + len(content) > 1000:
                raise OSError(28, "No space left on device")
            return super().write(content)

    for state in (
        {"weights": torch.rand(100_000)},
        {"weights": torch.rand(100_000), "own": Counting},
    ):
        with pytest.raises(OSError, match="No space left on device"):
            snapshot(state, {}).write(Full())
    with pytest.raises(SaveError, match="lambda"):
        snapshot({"own": lambda: None}, {}).write(io.BytesIO())


def test_another_version_starts_afresh_and_says_which(
    broken, scenario, monkeypatch, watcher, always
):
    log, row, _ = broken
    now = run_record.versions() | {"torch": "1.0"}
    monkeypatch.setattr(run_record, "versions", lambda: now)
    (again,) = play(scenario(), log=log, watcher=watcher).episodes
    assert again.id != row.id
    assert any("torch" in line and "this is 1.0" in line for line in watcher.lines)


def test_a_save_is_written_though_another_process_has_just_dropped_the_last_one(
    tmp_path, monkeypatch
):
    one, other = (SaveStore(str(tmp_path / "a.db")) for _ in range(2))
    find = one.find

    def between(episode):
        monkeypatch.setattr(one, "find", find)
        other.drop("b" * 12)
        return find(episode)

    monkeypatch.setattr(one, "find", between)
    snapshot = Snapshot(False, lambda file: file.write(b"x"))
    save = one.put("a" * 12, "plan", snapshot, queries_used=1, mark={})
    assert other.find("a" * 12) == save


def test_fresh_resumes_nothing(broken, scenario, always):
    log, row, _ = broken
    (again,) = play(scenario(), log=log, fresh=True).episodes
    assert again.id != row.id


def test_an_episode_that_somebody_plays_is_not_taken_from_them(broken):
    log, row, store = broken
    mark = store.find(row.id).mark
    assert log.reopen_episode(row.id, mark, seconds=0, queries_used=0) is not None
    assert log.reopen_episode(row.id, mark, seconds=0, queries_used=0) is None
    assert log.episode(row.id).status == "started"


class Counting(Defence):
    """Serves the uniform answer every third time, and remembers how often it was asked."""

    def __init__(self):
        self.asked, self.seen, self.level = 0, [], torch.zeros(())
        self.network = torch.nn.Linear(2, 2)


def test_what_changes_in_a_defence_is_saved_and_its_networks_are_not():
    defence = Counting()
    drift = ChangedAttributes(defence)
    assert set(drift.changed()) == {"seen"}  # a container may have changed inside
    defence.asked = 3
    defence.level += 1
    assert set(drift.changed()) == {"asked", "seen", "level"}
    other = Counting()
    ChangedAttributes(other).put_back(drift.changed())
    assert (other.asked, float(other.level)) == (3, 1.0)
