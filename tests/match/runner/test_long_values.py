"""What players say is bounded where it enters: names and data are refused, texts shortened."""

import json

import pytest

from arena.log.player_values import MESSAGE_CHARACTERS
from arena.log.store import Log
from arena.runner import events
from arena.runner.match import play
from arena.scenario import load
from envs.errors import MOST_CHARACTERS, PlayerError, one_line, shortened

PLAYER = """
from fractions import Fraction
from agents.attackers.noise import Noise
from agents.base import ArchitectureGuess


class Talks(Noise):
    def __init__(self, *, how: str = "", late: bool = False):
        super().__init__()
        self.how, self.late = how, late

    def attack(self, oracle, kit):
        if not self.late:
            exec(self.how)
        super().attack(oracle, kit)
        if self.late:
            exec(self.how)
"""


@pytest.fixture
def told(tiny_file, tmp_path):
    """Play an attacker that says something; gives its row, its events and the log's size."""

    def run(how, *, late=True, isolation="none"):
        (tmp_path / "talks.py").write_text(PLAYER)
        use, params = f"{tmp_path / 'talks.py'}:Talks", {"how": how, "late": late}
        path = tiny_file(attackers=[{"use": use, "params": params}], isolation=isolation)
        with Log.open(tmp_path / "told.db") as log:
            (row,) = play(load(str(path)), log=log).episodes
            said = [one for one in log.events(row.id) if one.kind != "process-state"]
            assert sum(one.attack_answered for one in log.rounds(row.id)) == 1000  # nothing is lost
            return row, said

    return run


REFUSED = {
    "kit.note('k' * 100_000, 'm')":
        "kit.note: kind: expected at most 200 characters, got 100000: 'kkkk",
    "kit.note('kind', 'm', data='d' * 2**20)":
        "kit.note 'kind': expected data of at most 1048576 bytes as JSON, got 1048587",
    "kit.note('kind', 'm', **{str(n): 'd' * 100 for n in range(10_000)})":
        "kit.note 'kind': expected data of at most 1048576 bytes as JSON, got ",
    "kit.note('alarm', 'm', client=3, attacker=False)":
        "kit.note: kind: 'alarm' is what the other player says; choose another name",
    "kit.note('carried_state', 'm', carried_state={})":
        "kit.note: kind: 'carried_state' is what the arena says; choose another name",
    "kit.note('died', 'm')":
        "kit.note: kind: 'died' is what the arena says; choose another name",
    "kit.report(**{'n' * 201: 1.0})":
        "kit.report: name: expected at most 200 characters, got 201: 'nnnn",
    "kit.report(**{str(n): 1.0 for n in range(1001)})":
        "kit.report: expected at most 1000 numbers, got 1001",
    "self.inferred = ArchitectureGuess(family='f' * 201)":
        "inferred.family: expected a text of at most 200 printable characters, got 'ffff",
    "self.inferred = ArchitectureGuess(depth=10 ** 5000)":
        "inferred.depth: expected a whole number below 2**63, got int",
    "self.inferred = ArchitectureGuess(thresholds=(0.5,) * 1001)":
        "inferred.thresholds: expected a tuple of at most 1000 numbers, got tuple",
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSED)
def test_names_and_data_that_are_too_long_end_the_episode_and_lose_nothing_else(told, how):
    row, said = told(how)
    assert row.status == "error"
    assert row.error.startswith(REFUSED[how])
    assert len(row.error) < 300
    assert row.clone_accuracy is not None
    # what it says in the place of others stands nowhere
    assert [one.kind for one in said] == ["error"]


@pytest.mark.parametrize(
    "how",
    ["kit.note('k' * 200, 'm')", "kit.report(**{'n' * 200: 1.0})",
     "self.inferred = ArchitectureGuess(family='f' * 200, depth=2 ** 63 - 1)",
     "kit.note('kind', 'm', data='d' * 1_000_000)"],
)  # fmt: skip
def test_what_is_as_long_as_may_be_is_kept(told, how):
    assert told(how)[0].status == "success"


@pytest.mark.parametrize("isolation", ["none", pytest.param("process", marks=pytest.mark.slow)])
def test_texts_are_shortened_and_say_so(told, isolation):
    _, said = told("kit.note('kind', 'begins' + 'm' * 100_000 + 'ends')", isolation=isolation)
    (note,) = [one for one in said if one.kind == "kind"]
    assert len(note.message) <= MESSAGE_CHARACTERS
    assert note.message.startswith("begins")
    assert note.message.endswith("ends")
    assert " characters left out ... " in note.message
    row, said = told("raise ValueError('begins' + 'e' * 10_000_000 + 'ends')", isolation=isolation)
    assert row.error.startswith("ValueError: begins")
    assert row.error.endswith("ends")
    assert len(row.error) <= MOST_CHARACTERS
    (error,) = [one for one in said if one.kind == "error"]
    assert error.message == row.error
    assert len(json.dumps(error.data)) <= 25_000


def test_only_so_many_notes_are_taken(told, monkeypatch):
    monkeypatch.setattr(events, "NOTES", 20)
    row, said = told("for _ in range(21): kit.note('kind', 'm')")
    assert (row.status, row.error) == ("error", "kit.note: more than 20 notes")
    assert sum(one.kind == "kind" for one in said) == 20
    assert told("for _ in range(20): kit.note('kind', 'm')")[0].status == "success"


@pytest.mark.parametrize("length", [0, 1999, 2000, 2001, 2050, 10**6])
def test_a_line_that_was_shortened_stays_as_it_is(length):
    text = "".join(chr(97 + place % 26) for place in range(length))
    once = shortened(text, 2000)
    assert len(once) <= 2000
    assert shortened(once, 2000) == once
    assert (once == text) is (length <= 2000)
    if length > 2000:
        left = int(once.partition(" ... ")[2].partition(" ")[0])
        ends = once.split(f" ... {left} characters left out ... ")
        assert len("".join(ends)) + left == length
    assert len(one_line(PlayerError(text))) <= MOST_CHARACTERS
