"""Every scenario that ships and plays on a CPU repeats itself, and an altered row is found.

The scenarios are played small (budget and training), with every attacker and every defender in at
least one episode; each of these is played again and compared.
"""

import random
from itertools import cycle, islice

import pytest
from sqlalchemy import text

from arena.log.store import Log
from arena.registry import players
from arena.replay.verify import verify
from arena.runner.match import play
from arena.scenario import load, shipped

SMALL = ("threat.budget=1500", "checkpoints=3", "victim.recipe.epochs=3")
SHORT = {"epochs": 2, "surrogate_epochs": 2}
"""Of the defences' own trainings, where they have such parameters."""
ON_DIGITS = [name for name in shipped() if load(name).data.use == "digits"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def meetings(scenario):
    """Pair attackers and defenders off, the shorter list over and over; a scenario for each."""
    longest = max(len(scenario.attackers), len(scenario.defenders))
    pairs = zip(cycle(scenario.attackers), cycle(scenario.defenders), strict=False)
    for attacker, defender in islice(pairs, longest):
        alone = {
            "attackers": (attacker,),
            "defenders": (shortened(defender),),
            "seeds": scenario.seeds[:1],
        }
        if players.learns_between_episodes(defender.use):
            alone["seeds"] = scenario.seeds[
                :2
            ]  # the second plays what the first has with_carried_state
        yield scenario.model_copy(update=alone)


def shortened(defender):
    """Let the defences of a defender train for less long, those in a stack too."""

    def short(use, params):
        known = players.defences.resolve(use, params)[0]
        told = {name: value for name, value in SHORT.items() if name in known} | params
        if "layers" in told:
            layers = [{"use": one} if isinstance(one, str) else one for one in told["layers"]]
            told["layers"] = [
                {"use": one["use"], "params": short(one["use"], one.get("params", {}))}
                for one in layers
            ]
        return told

    deployed_defences = [one.model_copy(update={"params": short(one.use, one.params)})
             for one in defender.defence]  # fmt: skip
    return defender.model_copy(update={"defence": tuple(deployed_defences)})


def alter(log, id, bucket):
    """Change the digest of the answers in one row of the log."""
    with log.engine.begin() as connection:
        statement = "UPDATE round SET answer_digest = '00ff' WHERE episode_id = :id AND bucket = :b"
        assert connection.execute(text(statement), {"id": id, "b": bucket}).rowcount == 1


def test_all_shipped_scenarios_but_those_on_other_images_are_here():
    others = {name for name in shipped() if name not in ON_DIGITS}
    assert {load(name).data.use for name in others}.isdisjoint({"digits"})
    assert len(ON_DIGITS) >= 30


@pytest.mark.parametrize("name", ON_DIGITS)
def test_a_shipped_scenario_repeats_itself_and_an_altered_row_is_found(name, tmp_path):
    scenario = load(name, SMALL)
    with Log.open(tmp_path / "arena.db") as log:
        played = [row for one in meetings(scenario) for row in play(one, log=log).episodes]
        assert {row.attacker for row in played} == {one.name for one in scenario.attackers}
        assert {row.defender for row in played} == {one.name for one in scenario.defenders}
        for row in played:
            assert row.status == "success", (row.attacker, row.defender, row.error)
            verdict = verify(log, row.id)
            assert verdict.same, (verdict.title, list(map(str, verdict.differences[:5])))
            assert verdict.buckets == len(log.rounds(row.id)) > 0
        chance = random.Random(name)
        row = chance.choice(played)
        bucket = chance.choice(log.rounds(row.id))
        alter(log, row.id, bucket.bucket)
        verdict = verify(log, row.id)
        assert not verdict.same
        assert verdict.differences[0].where.startswith(f"bucket {bucket.bucket} (round")
        assert f" {bucket.first_round}" in verdict.differences[0].where
