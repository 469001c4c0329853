"""A pack is evidence for what it measured, and for nothing that was only meant to be."""

import pytest

from arena.assessment.assessed import assessed
from arena.assessment.citations import citations
from arena.assessment.sequence import Attack, Chosen
from arena.log.episode_filter import EpisodeFilter
from arena.scenario import Scenario

SEQUENCE = Chosen(
    (Attack("dfme", "data-free", "?"), Attack("knockoff", "pool", "?"),
     Attack("exit-timing", "probe", "?")), (),
)  # fmt: skip
RAW = {
    "version": 1, "name": "s", "data": "digits", "victim": "conv-small", "clone": "mlp-small",
    "seeds": [0], "threat": {"budget": 1000, "accounts": 3, "latency": "virtual"},
    "attackers": [{"use": "noise"}],
    "defenders": [{"name": "watch", "use": "detector", "defence": "truncation"}],
}  # fmt: skip
ALARM = ("alarm", "flagged", {"data": {"client": 0, "attacker": True}})


@pytest.fixture
def cited(made_up):
    """Lay the standards beside what the log holds: evidence by the standard's identifier."""

    def cite():
        found = assessed(made_up.log, made_up.log.episodes(EpisodeFilter()), SEQUENCE)
        return {one.id: one.evidence for one in citations(found, Scenario.parse(RAW))}

    return cite


def test_what_failed_is_evidence_for_nothing(made_up, cited):
    for name in ("dfme", "knockoff", "exit-timing"):
        made_up.play(name, "watch", 0, status="error", error="out of memory", clone=None)
    assert set(cited().values()) == {""}


def test_what_was_measured_is_told(made_up, cited):
    for defender in ("undefended", "watch"):
        made_up.play("dfme", defender, 0, clone=0.6)
        made_up.play("exit-timing", defender, 0, status="error", error="closed", clone=None)
    evidence = cited()
    assert evidence["AML.T0024.002"] == "clone accuracy of 1 attack at 1,000 queries"
    assert evidence["AML.T0008.005"] == "attacks from 3 accounts"
    assert evidence["AML.M0002"] == "worst case and users' loss of watch"
    assert evidence["AML.T0014"] == evidence["11.3.1"] == ""


def test_a_detector_is_evidence_by_its_alarms(made_up, cited):
    for seed, events in enumerate(([ALARM], [], [ALARM, ALARM])):
        made_up.play("dfme", "watch", seed, clone=0.6, events=events)
    assert cited()["11.3.4"] == "the attacker was flagged by watch in 2 of 3 episodes"
