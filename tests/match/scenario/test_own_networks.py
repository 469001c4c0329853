"""Networks of others in scenarios: what identifies them, and what is told before a game."""

import pytest
import torch
from typer.testing import CliRunner

from arena.cli.app import app
from arena.registry.listing import inventory
from arena.scenario import Scenario, load
from arena.scenario.required_files import require_files
from envs.errors import DataMissing, ScenarioError
from envs.nets import registry

CODE = """
from torch import nn

class Mine(nn.Module):
    def __init__(self, num_classes=10, width=8):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.head(self.stem(images).mean((2, 3)))

def thirteen():
    return Mine(13)
"""
RAW = {
    "version": 1,
    "name": "own",
    "seeds": [0],
    "data": "digits",
    "clone": {"use": "mlp-small"},
    "threat": {"budget": 100},
    "attackers": [{"use": "noise"}],
}


@pytest.fixture
def folder(tmp_path):
    """A network's file and its weights."""
    (tmp_path / "net.py").write_text(CODE)
    save(tmp_path)
    return tmp_path


def save(folder, seed=0, name="w.pt"):
    generator = torch.Generator().manual_seed(seed)
    use = f"{folder / 'net.py'}:Mine"
    network = registry.build(use, num_classes=10, image_shape=(1, 8, 8), generator=generator)
    torch.save(network.adapted.body.state_dict(), folder / name)


def scenario(folder, defence="undefended", **victim):
    given = {"use": f"{folder / 'net.py'}:Mine", "weights": str(folder / "w.pt"), **victim}
    given = {key: value for key, value in given.items() if value is not None}
    return Scenario.parse({**RAW, "victim": given, "defenders": [{"defence": defence}]})


def identity(folder, **victim):
    return scenario(folder, **victim).plans()[0].hash


def test_where_code_and_weights_lie_does_not_count_and_what_they_hold_does(folder, tmp_path):
    before = identity(folder)
    other = tmp_path / "elsewhere"
    other.mkdir()
    (folder / "net.py").rename(other / "net.py")
    (folder / "w.pt").rename(other / "weights.pt")
    assert identity(other, weights=str(other / "weights.pt")) == before
    save(other, seed=1, name="weights.pt")
    assert identity(other, weights=str(other / "weights.pt")) != before
    save(other, name="weights.pt")
    (other / "net.py").write_text(CODE.replace("nn.ReLU()", "nn.Tanh()"))
    assert identity(other, weights=str(other / "weights.pt")) != before


def test_what_is_said_of_a_network_counts(folder):
    said = [
        {},
        {"weights": None},
        {"normalise": {"mean": [0.5], "std": [0.5]}},
        {"exits": ["stem"]},
        {"params": {"width": 8}},
    ]
    assert len({identity(folder, **each) for each in said}) == len(said)


def test_plans_of_our_networks_are_those_of_before():
    plan = Scenario.parse(
        {**RAW, "victim": {"use": "conv-small"}, "defenders": [{"defence": "undefended"}]}
    ).plans()[0]
    assert set(plan.model_dump(mode="json")["victim"]) == {"use", "params", "recipe", "seed"}
    assert set(plan.model_dump(mode="json")["clone"]) == {"use", "params"}


def test_files_beside_the_scenario_are_found_from_anywhere(folder, tmp_path, monkeypatch):
    text = (
        'version = 1\ndata = "digits"\nseeds = [0]\n[victim]\nuse = "net.py:Mine"\n'
        'weights = "w.pt"\n[clone]\nuse = "mlp-small"\n[threat]\nbudget = 10\n'
        '[[attackers]]\nuse = "noise"\n[[defenders]]\ndefence = "undefended"\n'
    )
    (folder / "own.toml").write_text(text)
    monkeypatch.chdir(tmp_path.parent)
    loaded = load(str(folder / "own.toml"))
    loaded.check()
    require_files(loaded)
    assert loaded.victim.weights == folder / "w.pt"


def test_files_named_by_text_alone_are_found_beside_the_scenario_too(folder, tmp_path, monkeypatch):
    for name in ("data.py", "stand.py", "model.onnx"):
        (folder / name).write_text("")
    (folder / "own.toml").write_text(
        'version = 1\ndata = "data.py:splits"\nseeds = [0]\nvictim = "model.onnx"\n'
        'clone = "net.py:Mine"\nthreat = { budget = 10, pool = "data.py:pool" }\n'
        '[[attackers]]\nuse = "noise"\nwrappers = ["stand.py:Between"]\n'
        '[[defenders]]\nname = "two"\ndefence = ["stand.py:Near", "stand.py:Far"]\n'
    )
    monkeypatch.chdir(tmp_path.parent)
    found = load(str(folder / "own.toml"))
    own = folder.resolve()
    assert (found.data.use, found.threat.pool.use) == (
        f"{own}/data.py:splits",
        f"{own}/data.py:pool",
    )
    assert (found.victim.use, found.clone.use) == (f"{own}/model.onnx", f"{own}/net.py:Mine")
    assert found.attackers[0].wrappers[0].use == f"{own}/stand.py:Between"
    layers = [layer.use for layer in found.defenders[0].defence]
    assert layers == [f"{own}/stand.py:Near", f"{own}/stand.py:Far"]


@pytest.mark.parametrize(
    ("victim", "said"),
    [
        ({"use": "thirteen", "weights": None}, "victim: .* 10 classes; expected"),
        ({"exits": ["stm"]}, "victim: exits: the network has no layer 'stm'; did you mean 'stem'"),
        ({"params": {"width": 4}}, r"victim: .*w.pt is not for 'Mine': its 'stem.0.weight' is"),
        ({"normalise": {"mean": [0, 0], "std": [1]}}, "one mean for each of 1 channels, got 2"),
        ({"normalise": {"mean": [0], "std": [0]}}, "expected a number above 0, got 0"),
        ({"use": "Gone"}, "defines no 'Gone'"),
    ],
)
def test_bad_input_is_told_in_one_line_before_any_game(folder, victim, said):
    if "use" in victim:
        victim = victim | {"use": f"{folder / 'net.py'}:{victim['use']}"}
    with pytest.raises(ScenarioError, match=said) as told:
        scenario(folder, **victim).check()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("defence", "victim", "said"),
    [
        ("meco", {}, "'meco' needs to train the victim anew, and this one is taken as it is"),
        ("dnf", {}, "'dnf' needs places for exit heads"),
        ("dnf_plus", {}, "'dnf_plus' needs places for exit heads"),
        ("dnf", {"exits": ["stem"]}, ""),
        ("dnf_plus", {"exits": ["stem"]}, ""),
        ("meco", {"weights": None}, ""),
        ("randp", {}, ""),
    ],
)
def test_a_defence_says_what_it_needs_beyond_answers(folder, defence, victim, said):
    asked = scenario(folder, defence, **victim)
    if not said:
        asked.check()
        return
    with pytest.raises(ScenarioError, match=f"defenders.{defence}: {said}"):
        asked.check()


def test_a_defence_that_only_filters_takes_any_victim(folder):
    raw = scenario(folder).model_dump(mode="json", exclude_unset=True)
    for layer in ({"use": "meco", "params": {"retrain": "off"}}, {"use": "truncation"}):
        raw["defenders"] = [{"defence": [layer]}]
        Scenario.parse(raw).check()
    stacked = {"layers": [{"use": "meco"}]}
    raw["defenders"] = [{"defence": [{"use": "stack", "params": stacked}]}]
    with pytest.raises(ScenarioError, match="'stack' needs to train the victim anew"):
        Scenario.parse(raw).check()


def test_places_for_heads_on_our_networks_are_their_own():
    raw = {**RAW, "victim": {"use": "conv-small", "exits": ["a"]}, "defenders": [{}]}
    with pytest.raises(ScenarioError, match="'conv-small' has places of its own"):
        Scenario.parse(raw).check()


def test_missing_weights_are_told_before_the_first_episode(folder):
    with pytest.raises(DataMissing, match=r"victim.weights: no file .*gone.pt"):
        require_files(scenario(folder, weights=str(folder / "gone.pt")))


def test_a_network_of_a_distribution_is_found_listed_and_digested(tmp_path, monkeypatch):
    (tmp_path / "their_nets").mkdir()
    (tmp_path / "their_nets" / "__init__.py").write_text(CODE)
    info = tmp_path / "their_nets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_nets\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[arena.networks]\ntheir-net = their_nets:Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    (entry,) = [one for one in inventory("networks") if one.name == "their-net"]
    assert (entry.origin, entry.fault) == ("their_nets", "")
    asked = scenario(tmp_path, use="their-net", weights=None)
    asked.check()
    before = asked.plans()[0].hash
    (tmp_path / "their_nets" / "__init__.py").write_text(CODE + "\n# other\n")
    assert asked.plans()[0].hash != before
    with pytest.raises(ScenarioError, match="no network named 'their-nett'; did you mean"):
        scenario(tmp_path, use="their-nett", weights=None).check()


def test_the_command_line_tells_in_one_line_too(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "own.toml").write_text(scenario(folder).text)
    told = CliRunner().invoke(
        app,
        ["scenarios", "check", "own.toml", "--trust-plugins", "--set", 'victim.exits=["nowhere"]'],
    )
    assert told.exit_code != 0
    assert "Traceback" not in told.output
    assert "no layer 'nowhere'" in told.output
