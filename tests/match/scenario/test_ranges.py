"""Values that no episode can be played with are refused before a victim is trained."""

import pytest

from arena.registry.parameters import parameters
from arena.registry.players import attackers
from arena.scenario.overrides import parse_value
from arena.scenario.reading import build, find, load
from arena.scenario.scenario import Scenario
from envs.errors import ArenaError, ScenarioError, UnknownName

A = "attackers.dfme.params."
D = 'defenders=[{name = "d", defence = '
REFUSED = {
    # players
    A + "batch=-5": "attackers.dfme.params.batch: expected a whole number of at least 1 and at",
    A + "batch=0": "attackers.dfme.params.batch: expected a whole number of at least 1 and at",
    A + "batch=4611686018427387904": "attackers.dfme.params.batch: expected a whole number of",
    A + "clone_rate=nan": "attackers.dfme.params.clone_rate: expected a finite number, got nan",
    A + "clone_rate=-inf": "attackers.dfme.params.clone_rate: expected a finite number, got -inf",
    A + "clone_rate=0": "attackers.dfme.params.clone_rate: expected a number above 0",
    A + "milestones=[2.0]": "attackers.dfme.params.milestones.0: expected a number of at least 0",
    A + "milestones=[true]": "attackers.dfme.params.milestones.0: expected a number",
    A + "momentum=1": "attackers.dfme.params.momentum: expected a number of at least 0 and below 1",
    A + "epsilon=-1e-3": "attackers.dfme.params.epsilon: expected a number above 0",
    "defenders.undefended.policy={strength = nan}": "expected a finite number, got nan",
    # latency
    "latency.network=[]": "latency.network: expected a text, got []",
    "latency.network={}": "latency.network: expected a text, got a table",
    "latency.network=wlan": "no network preset named 'wlan'",
    "latency.noise=-1": "latency.noise: expected a number of at least 0 and at most 10, got -1",
    "latency.noise=1e300": "latency.noise: expected a number of at least 0 and at most 10",
    "latency.noise=nan": "latency.noise: expected a finite number, got nan",
    # data and pools
    "data.params.size=7": "data.params.size: expected a whole number of at least 8",
    "data.params.size=8.5": "data.params.size: expected a whole number",
    "data.params.size=1e2": "data.params.size: expected whole numbers without a decimal point",
    'data={use = "shapes", params = {test = 0}}': "data.params.test: expected a whole number of at",
    'data={use = "mnist", params = {validation = 0}}': "data.params.validation: expected at",
    "threat.pool.params.count=0": "threat.pool.params.count: expected a whole number of at least 1",
    "threat.pool.params.count=-1": "threat.pool.params.count: expected a whole number of at least",
    "threat.pool.params.count=1e12": "threat.pool.params.count: expected a whole number of at",
    'threat.pool={use = "shapes", params = {grey = 2}}': "threat.pool.params.grey: expected a",
    'threat.pool={use = "digits", params = {classes = "1"}}': "threat.pool.params.classes: expect",
    # networks
    "clone.use=lenet5": "clone: ",
    'clone={use = "mlp-small", params = {hidden = 0}}': "clone: ",
    'clone={use = "mlp-small", params = {hidden = 1e9}}': "clone.params.hidden: expected whole num",
    'clone={use = "mlp-small", params = {hidden = 9000000000}}': "clone: ",
    # victims and traffic
    "victim.recipe.epochs=0": "victim.recipe: epochs: expected at least 1",
    "victim.recipe.epochs=-1": "victim.recipe.epochs: expected a whole number of at least 0",
    "victim.recipe.batch=0": "victim.recipe.batch: expected a whole number of at least 1",
    'traffic={ood_share = 0.1, ood = "noise"}': "traffic.ood_share: needs traffic.benign above 0",
    "traffic.clients=1e7": "traffic.clients: expected a whole number of at least 1 and at most",
    "checkpoints=1e9": "checkpoints: expected a whole number of at least 1 and at most 100000",
    # defences: what they train on, and images that they cannot be built for
    D + '"dnf", params = {ood = "unifrom"}}]': "no source of images named 'unifrom'; did",
    D + '"dnf_plus", params = {ood = ["smooth", "shapess"]}}]': "did you mean 'shapes'?",
    D + '"dnf", params = {ood = {uniform = 1, cifra10 = 2}}}]': "did you mean 'cifar10'?",
    D + '[{use = "dnf", params = {ood = "smoth"}}, "timing"]}]': "did you mean 'smooth'?",
    D + '"same", params = {patch = 3}}]': "divides the sides of 8x8 images, got 3",
    D + '"same", params = {heads = 5}}]': "expected a width that is a multiple of 5 heads",
    D + '["dnf", {use = "same", params = {patch = 5}}]}]': "sides of 8x8 images, got 5",
    # the size of numbers and texts
    "threat.budget=9999999999999999999999": "threat.budget: expected a whole number of 64 bits",
    "threat.budget=" + "9" * 5000: "threat.budget: expected a whole number",
    "threat.budget=1e30": "threat.budget: expected a whole number of at least 1, got 1e+30",
    "seeds=[-1]": "seeds.0: expected a whole number of at least 0",
    "name=" + "a" * 101: "name: expected a text of at most 100 characters",
    'name="a\\u0000b"': "name: expected a text without NUL characters",
    'name="a\\u001b[31mb"': "name: expected a text",
    'description="\\u0000"': "description: expected a text without NUL characters",
    "data.root=" + "x" * 5000: "data: expected the path of a folder",
    'attackers.0.use="a\\u0000.py:B"': "expected a text without NUL",
    "attackers.0.use=" + "x" * 5000 + ".py:B": "no path of a file",
    "attackers.0.use=~nobody-of-this-name/a.py:B": "no file",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory, tiny):
    import tomli_w

    path = tmp_path_factory.mktemp("scenario") / "tiny.toml"
    pool = {"use": "noise", "params": {"count": 10}}
    table = tiny(attackers=[{"use": "dfme"}], threat={"pool": pool})
    path.write_text(tomli_w.dumps(table))
    return path


@pytest.mark.parametrize("override", REFUSED, ids=lambda text: text[:40])
def test_an_impossible_value_is_refused_by_its_key(file, override):
    with pytest.raises((ScenarioError, UnknownName)) as caught:
        load(file, [override]).check()
    assert REFUSED[override] in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_the_scenario_itself_is_played(file):
    load(file).check()


def test_a_pool_may_be_larger_than_its_data_set(tiny):
    pool = {"use": "digits", "params": {"split": "benign", "count": 5_000, "enlarge": True}}
    Scenario.parse(tiny(attackers=[{"use": "knockoff"}], threat={"pool": pool})).check()


def test_a_network_that_the_images_do_not_fit_is_refused(file):
    with pytest.raises(ScenarioError, match=r"victim: .*16x16"):
        load(file, ["victim.use=resnet18-8x"]).check()


@pytest.mark.parametrize("text", ["[" * 5000, "{a=" * 5000, "9" * 5000], ids=lambda text: text[:3])
def test_a_value_that_no_reader_takes_is_a_text(text):
    assert parse_value(text) == text


def test_tables_nested_too_deeply_are_refused(tmp_path):
    path = tmp_path / "deep.toml"
    path.write_text("version = 1\n" + "a." * 5000 + "b = 1\n")
    with pytest.raises(ScenarioError, match="nested too deeply"):
        load(path)


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 5000 + ".toml", "~nobody-of-this-name/a.toml"])
def test_what_is_no_path_is_refused(name):
    with pytest.raises((ScenarioError, UnknownName)):
        find(name)


def test_more_episodes_than_a_log_should_hold_are_refused(tiny):
    with pytest.raises(
        ScenarioError, match="seeds: expected a list of at least 1 and of at most 100000"
    ):
        build(tiny(seeds=list(range(100_001))), "many")
    defenders = [{"name": f"d{number}"} for number in range(11)]
    with pytest.raises(ScenarioError, match="at most 100000 episodes, got 110000"):
        build(tiny(seeds=list(range(10_000)), defenders=defenders), "many")


def test_ranges_are_shown_in_listings():
    types = {one.name: one.type for one in parameters(attackers.find("dfme"))}
    assert types["momentum"] == "float >= 0 and < 1 | None"
    assert types["milestones"] == "Sequence[float from 0 to 1] | None"


@pytest.mark.parametrize("name", attackers.names())
@pytest.mark.parametrize("value", [-5, float("nan"), 2**62])
def test_no_attacker_takes_such_a_number_of_anything(tiny, name, value):
    for parameter in parameters(attackers.find(name)):
        if parameter.type.startswith(("int", "float")) and not (
            value == 2**62 and parameter.type.startswith("float")
        ):
            attacker = {"use": name, "params": {parameter.name: value}}
            with pytest.raises(ArenaError, match=parameter.name):
                Scenario.parse(tiny(attackers=[attacker], threat={"latency": "virtual"})).check()
