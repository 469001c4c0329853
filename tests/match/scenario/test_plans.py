"""The episodes a scenario stands for: their product, their hash, and the check of their names."""

import pytest

from arena.scenario import EpisodePlan, Scenario
from envs.errors import ScenarioError

RAW = {
    "version": 1,
    "name": "small",
    "data": "digits",
    "seeds": [0, 1],
    "victim": {"use": "conv-small", "recipe": {"epochs": 2}},
    "clone": {"use": "mlp-small"},
    "threat": {"budget": 1000},
    "traffic": {"benign": 0.25},
    "attackers": [{"use": "noise"}, {"use": "dfme", "params": {"batch": 64}}],
    "defenders": [{"defence": "undefended"}, {"name": "weak", "policy": {"strength": 0.5}}],
}

PROBE = """
from agents import Attacker

class Probe(Attacker):
    requires = frozenset({needs})

    def __init__(self, *, batch: int = 8, sizes: tuple[int, ...] = (1, 2)) -> None:
        if batch == 13:
            raise ValueError("13 brings bad luck")

    def attack(self, oracle, kit):
        pass
"""


def scenario(**changes):
    return Scenario.parse({**RAW, **changes})


def first(**changes):
    return scenario(**changes).plans()[0]


@pytest.fixture
def probe(tmp_path):
    def write(needs="()", folder="."):
        path = tmp_path / folder / "probe.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(PROBE.replace("{needs}", needs))
        return f"{path}:Probe"

    return write


def test_the_plans_are_every_attacker_against_every_defender_with_every_seed():
    titles = [plan.title for plan in scenario().plans()]
    assert titles == [
        f"{attacker} vs {defender}, seed {seed}"
        for attacker in ("noise", "dfme")
        for defender in ("undefended", "weak")
        for seed in (0, 1)
    ]
    assert scenario().size == len(titles)
    assert len({plan.hash for plan in scenario().plans()}) == len(titles)


def test_the_victims_seed_follows_the_episode_unless_it_is_given():
    assert [plan.victim_seed for plan in scenario().plans()[:2]] == [0, 1]
    fixed = scenario(victim={"use": "conv-small", "seed": 9})
    assert [plan.victim_seed for plan in fixed.plans()[:2]] == [9, 9]


BEARS = {
    "budget": {"threat": {"budget": 1001}},
    "labels": {"threat": {"budget": 1000, "labels": "hard"}},
    "latency shown": {"threat": {"budget": 1000, "latency": "virtual"}},
    "pool": {"threat": {"budget": 1000, "pool": "noise"}},
    "seed": {"seeds": [2]},
    "victim": {"victim": {"use": "mlp-small", "recipe": {"epochs": 2}}},
    "victim's parameters": {"victim": {**RAW["victim"], "params": {"hidden": 8}}},
    "victim's recipe": {"victim": {"use": "conv-small", "recipe": {"epochs": 3}}},
    "victim's seed": {"victim": {**RAW["victim"], "seed": 5}},
    "clone": {"clone": {"use": "conv-small"}},
    "data": {"data": "mnist"},
    "data's parameters": {"data": {"use": "digits", "params": {"size": 16}}},
    "traffic": {"traffic": {"benign": 0.3}},
    "latency model": {"latency": {"noise": 0.1}},
    "attacker": {"attackers": [{"use": "random-generator", "name": "noise"}]},
    "attacker's parameters": {"attackers": [{"use": "noise", "params": {"batch": 7}}]},
    "attacker's name": {"attackers": [{"use": "noise", "name": "other"}]},
    "defender's policy": {"defenders": [{"name": "undefended", "policy": {"strength": 0.1}}]},
    "measurements": {"checkpoints": 11},
    "record": {"record": "queries"},
    "name": {"name": "other"},
}

BEARS_NOT = {
    "description": {"description": "other words"},
    "tags": {"tags": ["a"]},
    "other seeds": {"seeds": [0, 4, 5]},
    "other players": {"attackers": [{"use": "noise"}]},
    "download": {"data": {"use": "digits", "download": True}},
    "where files lie": {"data": {"use": "digits", "root": "/elsewhere"}},
    "a default spelt out": {"attackers": [{"use": "noise", "params": {"loss": "auto"}}]},
    "a seed spelt out": {"victim": {**RAW["victim"], "seed": 0}},
    "no wrappers": {"attackers": [{"use": "noise", "wrappers": []}]},
    "names of classes": {"victim": {**RAW["victim"], "class_names": list("abcdefghij")}},
    "a whole share": {"defenders": [{"name": "undefended", "policy": {"strength": 1}}]},
}


@pytest.mark.parametrize("change", BEARS)
def test_the_hash_changes_with_what_bears_on_the_result(change):
    assert first(**BEARS[change]).hash != first().hash


@pytest.mark.parametrize("change", BEARS_NOT)
def test_the_hash_stays_with_what_does_not_bear_on_the_result(change):
    assert first(**BEARS_NOT[change]).hash == first().hash


def test_the_hash_is_the_same_in_every_process():
    # stored in logs: when this changes, nothing that was played is found again
    assert first().hash == EpisodePlan.model_validate(first().model_dump(mode="json")).hash
    assert len(first().hash) == 16
    assert int(first().hash, 16) >= 0


def test_a_plan_survives_the_log_as_json(probe):
    for plan in scenario(attackers=[{"use": probe(), "params": {"sizes": [3]}}]).plans():
        again = EpisodePlan.model_validate_json(plan.model_dump_json())
        assert again == plan
        assert again.attacker.params == {"batch": 8, "sizes": [3]}


def test_an_edited_player_of_a_file_is_another_episode(probe):
    before = first(attackers=[{"use": probe()}])
    assert first(attackers=[{"use": probe()}]).hash == before.hash
    after = first(attackers=[{"use": probe(needs="('pool',)")}])
    assert after.hash != before.hash


def test_a_player_of_a_file_that_was_moved_is_the_same_episode(probe):
    here, there = probe(), probe(folder="elsewhere")
    assert first(attackers=[{"use": here}]).hash == first(attackers=[{"use": there}]).hash


# Names and parameters


def faults(**changes):
    with pytest.raises(ScenarioError) as refusal:
        scenario(**changes).check()
    return str(refusal.value).splitlines()


def test_a_right_scenario_passes_the_check(probe):
    scenario().check()
    pool = {"use": "shapes", "params": {"count": 50}}
    scenario(
        threat={"budget": 10, "latency": "virtual", "pool": pool},
        latency={"server": "gpu", "network": "lan"},
        attackers=[{"use": probe(needs="('pool', 'latency', 'soft-labels')")}],
    ).check()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"attackers": [{"use": "dfme", "params": {"bach": 3}}]},
            "attackers.dfme.params.bach: unknown parameter; did you mean 'batch'?",
        ),
        (
            {"attackers": [{"use": "dfme", "params": {"batch": "3"}}]},
            "attackers.dfme.params.batch: expected a whole number of at least 1 and at most "
            "1000000000, got '3'",
        ),
        (
            {"defenders": [{"name": "d", "policy": {"defence": 0.5}}]},
            "defenders.d.policy.defence: expected a whole number, got 0.5",
        ),
        (
            {"attackers": [{"use": "noise", "name": "n", "wrappers": ["avraging"]}]},
            "attackers.n.wrappers.0: no wrapper named 'avraging'; did you mean 'averaging'?",
        ),
        (
            {
                "attackers": [
                    {
                        "use": "noise",
                        "name": "n",
                        "wrappers": [{"use": "averaging", "params": {"repeat": 2}}],
                    }
                ]
            },
            "attackers.n.wrappers.0.params.repeat: unknown parameter; did you mean 'repeats'?",
        ),
        (
            {
                "attackers": [{"use": "noise", "wrappers": ["recovery"]}],
                "threat": {"budget": 9, "labels": "hard"},
            },
            "attackers.noise+recovery: Noise behind Recovery needs soft-labels, which this "
            "scenario does not grant; see its [threat] section",
        ),
        (
            {"attackers": [{"use": "dfne"}]},
            "attackers.dfne: no attacker named 'dfne'; did you mean 'dfme'?",
        ),
        (
            {"defenders": [{"defence": "undefnded"}]},
            "defenders.undefnded: no defence named 'undefnded'; did you mean 'undefended'?",
        ),
        (
            {"defenders": [{"use": "statik"}]},
            "defenders.statik: no defender named 'statik'; did you mean 'static'?",
        ),
        (
            {"defenders": [{"name": "d", "policy": {"strenth": 1}}]},
            "defenders.d.policy.strenth: unknown parameter; did you mean 'strength'?",
        ),
        (
            {"defenders": [{"name": "d", "policy": {"strength": 3}}]},
            "defenders.d.policy: expected a strength from 0 to 1, got 3.0",
        ),
        ({"data": "digit"}, "data: no data set named 'digit'; did you mean 'digits'?"),
        (
            {"data": {"use": "digits", "params": {"sice": 8}}},
            "data.params.sice: unknown parameter; did you mean 'size'?",
        ),
        (
            {"data": {"use": "digits", "params": {"size": 28, "fit": "crop"}}},
            "data.params.fit: expected one of 'pad', 'stretch', got 'crop'",
        ),
        ({"clone": "mlp-smal"}, "clone: no network named 'mlp-smal'; did you mean 'mlp-small'?"),
        (
            {"victim": {"use": "conv-small", "params": {"hiden": 3}}},
            "victim.params.hiden: unknown parameter; did you mean 'hidden'?",
        ),
        (
            {"victim": {"use": "conv-small", "recipe": {"epoch": 3}}},
            "victim.recipe.epoch: unknown parameter; did you mean 'epochs'?",
        ),
        (
            {"victim": {"use": "conv-small", "recipe": {"epochs": -3}}},
            "victim.recipe.epochs: expected a whole number of at least 0 and at most 1000000000, "
            "got -3",
        ),
        (
            {"victim": {"use": "conv-small", "recipe": {"use": "short23", "epochs": 3}}},
            "victim.recipe: no recipe named 'short23'; did you mean 'short32'?",
        ),
        (
            {"victim": {"use": "conv-small", "recipe": {"use": 32}}},
            "victim.recipe.use: expected the name of a recipe, got 32",
        ),
        (
            {"victim": {"use": "conv-small", "recipe": {"use": "short32", "amp": "none"}}},
            "victim.recipe: expected amp 'bf16' where amp_on_cpu is set in a recipe, got none",
        ),
        (
            {"latency": {"serber": "cpu"}},
            "latency.serber: unknown parameter; did you mean 'server'?",
        ),
        (
            {"threat": {"budget": 9, "labels": "hard"}, "attackers": [{"use": "dfme"}]},
            "attackers.dfme: DFME needs soft-labels, which this scenario does not grant; "
            "see its [threat] section",
        ),
    ],
)
def test_what_does_not_exist_is_named_with_its_path(change, line):
    assert faults(**change) == [line]


def test_a_pool_cannot_be_the_victims_data():
    (line,) = faults(data="noise")
    assert line.startswith("data: 'noise' has no labels to learn")


def test_all_problems_are_told_at_once():
    lines = faults(data="digit", clone="mlp", attackers=[{"use": "dfne"}])
    assert [line.partition(":")[0] for line in lines] == ["data", "clone", "attackers.dfne"]


def test_a_constructor_that_refuses_is_told_with_its_path(probe):
    line = "attackers.Probe.params: 13 brings bad luck"
    assert faults(attackers=[{"use": probe(), "params": {"batch": 13}}]) == [line]


OPEN = """
from agents import Attacker

class Open(Attacker):
    def __init__(self, **options):
        pass

    def attack(self, oracle, kit):
        pass
"""


@pytest.mark.parametrize("key", ["download", "root", "code", "use", "params"])
def test_every_parameter_of_a_player_tells_its_games_apart(tmp_path, key):
    """Tables of data sets and of players have keys of these names, which the hash leaves out."""
    (tmp_path / "open.py").write_text(OPEN)
    use = f"{tmp_path}/open.py:Open"

    def hash_of(value):
        return first(attackers=[{"use": use, "params": {key: value}}]).hash

    assert hash_of("one") == hash_of("one")
    assert hash_of("one") != hash_of("other")
    assert hash_of({"download": 1}) != hash_of({"download": 2})


def test_where_data_lie_and_whether_they_are_fetched_is_no_part_of_a_game():
    plain = first(data={"use": "digits"}).hash
    assert first(data={"use": "digits", "root": "/elsewhere", "download": True}).hash == plain
