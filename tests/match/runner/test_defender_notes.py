"""What a defender notices has its place on the budget, and hardening the time it really took."""

import pytest

from arena.log.episode_filter import EpisodeFilter
from arena.log.store import Log
from arena.runner.match import play
from arena.scenario import Scenario
from envs.errors import ScenarioError

WATCHMAN = """
from agents.base import Defender, Note
from envs.game.rounds import Countermeasure


class Watchman(Defender):
    def __init__(self, *, answered: float = 0):
        self.answered = answered

    def act(self, view):
        return Countermeasure()

    def notes(self):
        at = int(self.answered) if self.answered == int(self.answered) else self.answered
        return [Note("alarm", "seen", at)]
"""


@pytest.fixture
def alarm(tiny, tmp_path):
    """Play an episode in which a defender notices something after so many answers."""
    (tmp_path / "watchman.py").write_text(WATCHMAN)

    def played(answered, **changes):
        defenders = [{"name": "watchman", "use": f"{tmp_path}/watchman.py:Watchman",
                      "policy": {"answered": answered}, "defence": "undefended"}]  # fmt: skip
        table = tiny(defenders=defenders, threat={"budget": 400}, seeds=[0], **changes)
        with Log.open(tmp_path / "arena.db") as log:
            (row,) = play(Scenario.parse(table), log=log).episodes
            return row, log.events(row.id), log.rounds(row.id)

    return played


def test_an_alarm_has_its_place_on_the_budget(alarm):
    """Every fourth query is benign: 200 answers to everybody are 150 of the attacker's."""
    row, events, rounds = alarm(200, traffic={"benign": 0.25})
    (found,) = [event for event in events if event.kind == "alarm"]
    assert row.status == "success"
    assert found.data["answered"] == 200
    assert sum(bucket.benign_answered for bucket in rounds) == pytest.approx(133, abs=1)
    assert abs(found.queries_used - 150) <= 400 / 100 + 1


@pytest.mark.parametrize(("answered", "used"), [(0, 0), (10**9, 400)])
def test_an_alarm_before_the_first_and_after_the_last_answer_stays_on_the_budget(
    alarm, answered, used
):
    _, events, _ = alarm(answered)
    assert [event.queries_used for event in events if event.kind == "alarm"] == [used]


def test_an_alarm_at_no_whole_number_is_the_defender_s_error(alarm):
    row, _, _ = alarm(1.5)
    assert row.status == "error"
    assert row.error == "notes() 'alarm': answered: expected a whole number, got float"


def test_hardening_from_the_cache_takes_no_time_and_other_hardening_does(tiny, tmp_path):
    defences = [
        {"name": "trained", "defence": "dnf", "params": {"epochs": 1}},
        {"name": "untrained", "defence": "undefended"},
    ]
    with Log.open(tmp_path / "arena.db") as log:
        table = tiny(defenders=defences, threat={"budget": 100}, seeds=[0])
        for fresh in (False, True):
            play(Scenario.parse(table), log=log, fresh=fresh)
        which = EpisodeFilter(newest_first=False, status="success")
        seconds = {
            (row.defender, n): row.harden_seconds for n, row in enumerate(log.episodes(which))
        }
    assert seconds["trained", 0] > 0
    assert seconds["trained", 2] == 0
    assert seconds["untrained", 1] > 0
    assert seconds["untrained", 3] > 0


def test_a_record_of_all_queries_is_refused_where_there_is_no_place_for_it(tiny):
    with Log.open("sqlite://") as log:
        with pytest.raises(ScenarioError, match='record = "queries" keeps files beside the log'):
            play(Scenario.parse(tiny(record="queries")), log=log)
        assert log.episodes() == []
