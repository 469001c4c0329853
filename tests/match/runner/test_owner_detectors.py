"""The detectors that know what an owner knows, in a match: alarms, saves, replays."""

import pytest

from arena.log.checking import check
from arena.log.store import Log
from arena.replay.verify import verify
from arena.runner.match import play

POLICIES = {
    "prada": {},
    "seat": {"steps": 5, "perturbations": 2},
    "feature-gaussian": {},
    "account-clusters": {"every": 100},
}


@pytest.mark.parametrize(
    "name",
    [one if one == "feature-gaussian" else pytest.param(one, marks=pytest.mark.slow)
     for one in POLICIES],
)  # fmt: skip
def test_a_detector_plays_goes_on_from_a_save_and_repeats(
    tmp_path, scenario, break_off, always, name
):
    policy = {**POLICIES[name], "calibration": 20, "queries": 100, "flagged": {"refuse": True}}
    wanted = scenario(
        {
            "defenders": [{"use": name, "defence": "undefended", "policy": policy}],
            "threat": {"budget": 1200, "accounts": 4, "account_policy": "blocks"},
            "traffic": {"benign": 0.25, "clients": 4},
        }
    )
    with Log.open(tmp_path / "whole.db") as log:
        (whole,) = play(wanted, log=log).episodes
        assert whole.status == "success", whole.error
        alarms = [event for event in log.events(whole.id) if event.kind == "alarm"]
        if name == "feature-gaussian":  # noise is far from digits; some of digits' accounts are not
            assert sum(bool(event.data["data"]["attacker"]) for event in alarms) == 4
        assert check(log) == []
        assert verify(log, whole.id).same
    with Log.open(tmp_path / "a.db") as log:
        # noise ends at the first refusal: before it
        break_off(min(600, whole.queries_used - 1))
        play(wanted, log=log, saving=always)
        break_off(None)
        (row,) = play(wanted, log=log, saving=always).episodes
        assert row.status == "success", row.error
        assert (row.query_digest, row.answer_digest) == (whole.query_digest, whole.answer_digest)
        assert row.served_accuracy == whole.served_accuracy
        again = [event for event in log.events(row.id) if event.kind == "alarm"]
        assert [one.data for one in again] == [one.data for one in alarms]
