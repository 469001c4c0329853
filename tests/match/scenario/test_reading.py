"""Scenario files: what is refused and in which words, inheritance, overrides."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena.scenario import Scenario, load, shipped
from arena.scenario.reading import merge
from envs.errors import ScenarioError, UnknownName

SMALL = """\
version = 1
name = "small"
data = "digits"
seeds = [0, 1]
[victim]
use = "conv-small"
[clone]
use = "mlp-small"
[threat]
budget = 1000
[[attackers]]
use = "noise"
params = { batch = 64 }
[[attackers]]
use = "dfme"
[[defenders]]
defence = "undefended"
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def edited(tmp_path, old, new):
    assert old in SMALL
    path = tmp_path / "edited.toml"
    path.write_text(SMALL.replace(old, new, 1))
    return path


GOLDEN = {
    "misspelt key": ("budget = 1000", "bugdet = 1000", "2 problems\n  threat.budget: missing; "
        "expected a whole number of at least 1\n  threat.bugdet: unknown key; "
        "did you mean 'budget'?"),
    "text for a number": ("1000", '"many"',
        "threat.budget: expected a whole number of at least 1, got 'many'"),
    "nothing to ask": ("1000", "0",
        "threat.budget: expected a whole number of at least 1, got 0"),
    "half an image": ("1000", "0.5",
        "threat.budget: expected a whole number of at least 1, got 0.5"),
    "truth for a number": ("1000", "true",
        "threat.budget: expected a whole number of at least 1, got true"),
    "no such choice": ("budget = 1000", 'budget = 1000\nlabels = "firm"',
        "threat.labels: expected one of 'soft', 'hard', got 'firm'"),
    "all traffic benign": ("[threat]", "[traffic]\nbenign = 1\n[threat]",
        "traffic.benign: expected a number of at least 0 and below 1, got 1"),
    "benign strangers from nowhere": ("[threat]", "[traffic]\nood_share = 0.1\n[threat]",
        "traffic.ood_share: needs traffic.ood, the images to take them from"),
    "a later version": ("version = 1", "version = 2",
        "version: this program reads version 1 of scenario files, got 2; "
        "install the release that wrote it"),
    "no version": ("version = 1\n", "", "version: missing; begin the file with version = 1"),
    "no clone": ('[clone]\nuse = "mlp-small"\n', "", "clone: missing; expected a text or a table"),
    "nobody attacks": ('[[attackers]]\nuse = "noise"\nparams = { batch = 64 }\n[[attackers]]\n'
        'use = "dfme"\n', "[notes]\n", "2 problems\n  attackers: missing; expected a list of at "
        "least 1\n  notes: unknown key; known: attackers, checkpoints, clone, data, defenders, "
        "description, isolation, keep, latency, memory_limit, metrics, name, record, seeds, "
        "sweep, tags, threat, time_limit, traffic, version, victim"),
    "twins": ('use = "dfme"', 'use = "noise"',
        "attackers: 2 are named 'noise'; give each a name of its own"),
    "a key of an attacker": ('use = "dfme"', 'use = "dfme"\nparms = {}',
        "attackers.dfme.parms: unknown key; did you mean 'params'?"),
    "a seed twice": ("[0, 1]", "[3, 3]", "seeds: 3 is there twice"),
    "a negative seed": ("[0, 1]", "[0, -1]",
        "seeds.1: expected a whole number of at least 0 and below 9223372036854775808, got -1"),
    "parameters of several": ('defence = "undefended"',
        'defence = ["undefended", "dnf"]\nparams = { variant = "plain" }',
        "defenders.0: params belong to one defence; write them inside each of the list"),
    "a table for a name": ('"digits"', "{ name = 'digits' }", "2 problems\n  data.use: missing; "
        "expected a text\n  data.name: unknown key; did you mean 'resample'?"),
}  # fmt: skip


@pytest.mark.parametrize("case", GOLDEN)
def test_a_malformed_scenario_is_refused_in_these_words(tmp_path, case):
    old, new, words = GOLDEN[case]
    path = edited(tmp_path, old, new)
    with pytest.raises(ScenarioError) as refusal:
        load(path)
    assert str(refusal.value) == f"{path}: {words}"


def test_text_that_is_no_toml_is_refused_with_its_line(tmp_path):
    path = edited(tmp_path, "budget = 1000", "budget = = 1000")
    with pytest.raises(ScenarioError) as refusal:
        load(path)
    assert str(refusal.value).startswith(f"{path}:10: not TOML: ")


def test_a_file_cut_short_is_refused_with_its_last_line(tmp_path):
    path = tmp_path / "cut.toml"
    path.write_text('version = 1\nname = "cut"\ndata = [')
    with pytest.raises(ScenarioError, match=r"cut\.toml:3: not TOML"):
        load(path)


def test_a_missing_file_and_a_missing_name_say_what_there_is(tmp_path):
    with pytest.raises(ScenarioError, match=r"nowhere\.toml: no such file; .*arena scenarios list"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(UnknownName, match="did you mean 'quickstart'"):
        load("quikstart")


def test_short_forms_mean_the_long_ones(small, tmp_path):
    long = tmp_path / "small_long.toml"
    text = SMALL.replace('data = "digits"\n', "").replace(
        '[[defenders]]\ndefence = "undefended"\n',
        '[data]\nuse = "digits"\n[[defenders]]\nuse = "static"\nname = "undefended"\n'
        'defence = [{ use = "undefended" }]\n',
    )
    long.write_text(text)
    assert load(long).model_dump() == load(small).model_dump()


@pytest.mark.parametrize("written", ["", 'defence = "none"', 'defence = "undefended"'])
def test_a_defender_that_brings_nothing_is_undefended(tmp_path, written):
    scenario = load(edited(tmp_path, 'defence = "undefended"', written))
    (defender,) = scenario.defenders
    assert (defender.name, defender.use) == ("undefended", "static")
    assert [entry.use for entry in defender.defence] == ["undefended"]


def test_defenders_are_named_after_what_they_bring(tmp_path):
    def name(written):
        return load(edited(tmp_path, 'defence = "undefended"', written)).defenders[0].name

    assert name('defence = "dnf"') == "dnf"
    assert name('defence = ["dnf", { use = "undefended" }]') == "dnf+undefended"
    assert name('use = "bandit"\ndefence = "dnf"') == "bandit"
    assert name('use = "my/guard.py:Guard"') == "Guard"


def test_a_whole_number_may_be_written_with_an_exponent(tmp_path):
    assert load(edited(tmp_path, "1000", "1e5")).threat.budget == 100_000


def test_without_seeds_one_is_drawn_and_told(tmp_path):
    path = edited(tmp_path, "seeds = [0, 1]\n", "")
    first, second = load(path), load(path)
    assert first.seeds == (first.drawn_seed,)
    assert first.seeds != second.seeds
    assert tomllib.loads(first.text)["seeds"] == [first.drawn_seed]


def test_named_seeds_are_not_called_drawn(small):
    assert load(small).drawn_seed is None


def test_the_text_of_a_scenario_reads_back_as_the_scenario(small):
    scenario = load(small, ["attackers.dfme.params.milestones=[0.1, 0.5]"])
    again = Scenario.parse(tomllib.loads(scenario.text))
    assert again.model_dump() == scenario.model_dump()


# Overrides


def test_overrides_reach_keys_positions_and_names(small):
    scenario = load(
        small,
        [
            "threat.budget=50",
            "attackers.0.params.batch=8",
            "attackers.dfme.params.batch=16",
            "victim.recipe.epochs=3",
            "data.download=true",
            "seeds=[7]",
            "description=no TOML, hence a text",
        ],
    )
    assert scenario.threat.budget == 50
    assert [attacker.params for attacker in scenario.attackers] == [{"batch": 8}, {"batch": 16}]
    assert scenario.victim.recipe == {"epochs": 3}
    assert (scenario.data.use, scenario.data.download) == ("digits", True)
    assert scenario.seeds == (7,)
    assert scenario.description == "no TOML, hence a text"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("threat.bugdet=3", "threat.bugdet: unknown key; did you mean 'budget'?"),
        ("thraet.budget=3", "thraet: unknown key; did you mean 'threat'?"),
        ("attackers.dfmee.params.batch=3", "attackers.dfmee: unknown entry; did you mean 'dfme'?"),
        ("attackers.7.name=x", "attackers.7: unknown entry; known: dfme, noise"),
        ("threat.budget.x=3", "threat.budget: a single value, there is nothing below it to set"),
        ("threat.budget", "--set threat.budget: expected path.to.key=value"),
        ("=3", "--set =3: expected path.to.key=value"),
    ],
)
def test_an_override_that_leads_nowhere_is_refused(small, override, words):
    with pytest.raises(ScenarioError) as refusal:
        load(small, [override])
    assert str(refusal.value) == f"{small}: {words}"


def test_an_override_cannot_smuggle_in_a_second_key(small):
    scenario = load(small, ["description=1\nname = 'other'"])
    assert scenario.name == "small"


# Inheritance


def test_a_scenario_inherits_and_replaces_lists_whole(small, tmp_path):
    (tmp_path / "below").mkdir()
    child = tmp_path / "below" / "child.toml"
    child.write_text(
        'version = 1\nextends = "../small.toml"\n[threat]\nlabels = "hard"\n'
        '[[attackers]]\nuse = "noise"\n'
    )
    scenario = load(child)
    assert scenario.name == "child"
    assert (scenario.threat.budget, scenario.threat.labels) == (1000, "hard")
    assert [(one.use, one.params) for one in scenario.attackers] == [("noise", {})]
    assert scenario.seeds == (0, 1)


def test_a_scenario_may_extend_one_that_ships(tmp_path):
    child = tmp_path / "mine.toml"
    child.write_text('version = 1\nextends = "quickstart"\nseeds = [5]\n')
    scenario = load(child)
    assert scenario.seeds == (5,)
    assert scenario.attackers == load("quickstart").attackers


def test_a_circle_of_inheritance_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(ScenarioError, match=r"circle: a\.toml -> b\.toml -> a\.toml"):
        load(tmp_path / "a.toml")


def test_an_inherited_file_of_a_player_is_found_beside_the_file_that_names_it(small, tmp_path):
    (tmp_path / "probe.py").write_text("class Probe: ...\n")
    small.write_text(SMALL.replace('use = "dfme"', 'use = "probe.py:Probe"'))
    (tmp_path / "below").mkdir()
    child = tmp_path / "below" / "child.toml"
    child.write_text('version = 1\nextends = "../small.toml"\n')
    assert load(child).attackers[1].use == f"{tmp_path.resolve()}/probe.py:Probe"
    assert load(child).attackers[1].name == "Probe"


plain = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(
        st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(
        st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip
tables = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), plain, max_size=4)


@given(tables, tables)
@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
def test_merging_keeps_what_the_upper_table_says(base, over):
    merged = merge(base, over)
    assert merge(merged, over) == merged
    assert set(merged) == set(base) | set(over)


# What ships


def test_the_shipped_scenarios_are_found_and_ask_a_question():
    assert {"quickstart", "dfme_cifar10"} <= set(shipped())
    for name in shipped():
        scenario = load(name)
        assert Path(name).name in scenario.name  # two folders may hold a file of one name
        assert "?" in scenario.description


def test_the_shipped_scenarios_name_only_what_exists():
    for name in shipped():
        load(name).check()


def test_the_text_of_every_shipped_scenario_reads_back_as_it():
    for name in shipped():
        scenario = load(name)
        again = Scenario.parse(tomllib.loads(scenario.text), scenario.path)
        assert again.model_dump() == scenario.model_dump()


def test_the_quickstart_plays_the_controls_beside_attack_and_defence():
    scenario = load("quickstart")
    assert {one.use for one in scenario.attackers} == {"noise", "random-generator", "dfme"}
    assert [one.name for one in scenario.defenders] == ["undefended", "plain", "dnf"]
    assert scenario.data.use == "digits"


def test_a_file_as_a_windows_editor_writes_it_is_read(small):
    plain = load(small)
    small.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load(small) == plain


@pytest.mark.parametrize("name", ["dfme v1.2", "a.b.c", "0.5"])
def test_a_name_with_dots_is_set_and_swept_by_its_name(small, name):
    small.write_text(SMALL.replace('use = "dfme"', f'use = "dfme"\nname = "{name}"'))
    one = load(small, [f"attackers.{name}.params.batch=32"])
    assert one.attackers[1].params == {"batch": 32}
    swept = load(small, [f'sweep.over={{"attackers.{name}.params.batch"=[16, 32]}}'])
    assert [point.attackers[1].params["batch"] for point in swept.points] == [16, 32]
    assert load(small, [f"attackers.{name}.use=noise"]).attackers[1].name == name


@pytest.mark.parametrize("moment", ["2025-01-01", "10:00:00", "2025-01-01T10:00:00Z"])
@pytest.mark.parametrize(
    "key", ["sweep.over={'threat.budget'=[MOMENT]}", "attackers.dfme.params={batch=MOMENT}",
            "latency={noise=[MOMENT]}", "description=MOMENT"],
)  # fmt: skip
def test_a_moment_in_time_is_no_value(small, key, moment):
    with pytest.raises(ScenarioError, match="expected a text, a number, true") as refused:
        load(small, [key.replace("MOMENT", moment)]).check()
    assert "\n" not in str(refused.value)
