"""Games whose victim or clone is a network of others, with weights of its own."""

import pytest
import torch
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log.store import Log
from arena.runner.match import play
from arena.runner.setup import Setup
from arena.scenario import load
from envs.data.sources import load as load_data
from envs.errors import ScenarioError
from envs.nets import registry
from envs.nets.given_weights import take_weights
from envs.training.loop import fit
from envs.training.recipes import recipe_for

CODE = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, num_classes=10, width=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(16 * width, num_classes)

    def forward(self, images):
        return self.head(self.body(self.stem(images)).flatten(1))

class Branches(Mine):
    def forward(self, images):
        return super().forward(images * 1.0 if images.sum() > 0 else images)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a network's code, and weights that were trained on images of [-1, 1]."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "net.py").write_text(CODE)
    splits = load_data("digits")
    network = registry.build(
        f"{folder / 'net.py'}:Mine",
        num_classes=10,
        image_shape=(1, 8, 8),
        generator=torch.Generator().manual_seed(0),
        mean=(0.5,),
        std=(0.5,),
    )
    recipe = recipe_for((1, 8, 8)).with_changes(epochs=6)
    fit(network, splits.train.pixels, splits.train.labels, recipe,
        generator=torch.Generator().manual_seed(1))  # fmt: skip
    torch.save(network.adapted.body.state_dict(), folder / "w.pt")
    return folder


@pytest.fixture
def victim(trained):
    """The victim's table of a scenario."""
    return {
        "use": f"{trained / 'net.py'}:Mine",
        "weights": str(trained / "w.pt"),
        "normalise": {"mean": [0.5], "std": [0.5]},
        "exits": ["stem", "body"],
        "recipe": {},
    }


@pytest.fixture
def played(tmp_path, tiny_file, watcher):
    """Play the tiny scenario with changes; gives its rows."""

    def run(file="a.db", **changes):
        with Log.open(tmp_path / file) as log:
            path = tiny_file(**{"threat": {"budget": 200}, "checkpoints": 1, **changes})
            return play(load(str(path)), log=log, watcher=watcher).episodes

    return run


def test_a_trained_victim_is_taken_as_it_is_and_measured(victim, played, watcher, monkeypatch):
    monkeypatch.setattr("envs.training.victims.fit", lambda *a, **k: pytest.fail("was trained"))
    (row,) = played(victim=victim)
    assert row.status == "success", row.error
    assert row.victim_accuracy > 0.9
    assert row.victim == victim["use"]
    (line,) = [line for line in watcher.lines if "as it is" in line]
    assert "right" in line
    assert "normalise" not in line


def test_a_victim_that_sees_other_images_than_it_was_trained_on_is_doubted(victim, played, watcher):
    wrong = victim | {"normalise": {"mean": [30.0], "std": [0.01]}}
    played(victim=wrong)
    (line,) = [line for line in watcher.lines if "as it is" in line]
    assert "is 'normalise' what it was trained with" in line


def test_a_fortress_on_a_victim_of_others_saves_compute(victim, played):
    defence = [{"use": "dnf", "params": {"epochs": 2, "early_budget": 0.3}}]
    (row,) = played(victim=victim, defenders=[{"name": "dnf", "defence": defence}])
    assert row.status == "success", row.error
    assert row.attack_compute_share < 0.9


def test_one_that_cannot_be_cut_is_served_and_saves_none(victim, played, watcher):
    defence = [{"use": "dnf", "params": {"epochs": 2, "early_budget": 0.3}}]
    whole = victim | {"use": victim["use"].replace("Mine", "Branches")}
    (row,) = played(victim=whole, defenders=[{"name": "dnf", "defence": defence}])
    assert row.status == "success", row.error
    assert row.attack_compute_share > 1
    assert row.victim_accuracy > 0.9
    (line,) = [line for line in watcher.lines if "runs as a whole" in line]
    assert "early exits save no compute: its code cannot be traced" in line


@pytest.mark.parametrize(
    "defence", ["p-poison", "grad", "adaptive-misinformation", "reverse-sigmoid"]
)
def test_defences_that_build_networks_like_the_victim_take_one_of_others(victim, played, defence):
    short = {"surrogate_epochs": 1} if defence in ("p-poison", "grad") else {}
    if defence == "adaptive-misinformation":
        short = {"epochs": 1, "detector": "outlier-exposed"}
    defenders = [{"name": "d", "defence": [{"use": defence, "params": short}]}]
    (row,) = played(victim=victim, defenders=defenders, threat={"budget": 20})
    assert row.status == "success", row.error


def test_a_victim_of_others_without_weights_is_trained(trained, played):
    use = f"{trained / 'net.py'}:Mine"
    row, other = played(victim={"use": use, "recipe": {"epochs": 6}}, seeds=[0, 1])
    assert row.victim_accuracy > 0.9
    assert other.victim_accuracy > 0.9
    assert row.served_agreement == other.served_agreement == 1


def test_a_clone_of_others_starts_from_its_weights(victim, trained, played):
    clone = {key: victim[key] for key in ("use", "weights", "normalise")}
    plan = {"use": "noise", "params": {"clone_rate": 1e-9}}
    (row,) = played(victim=victim, clone=clone, attackers=[plan])
    assert row.status == "success", row.error
    assert row.clone_fidelity > 0.99  # it was the victim before its first query
    assert row.clone_normalisation == "given"


@pytest.mark.slow
def test_an_isolated_clone_of_others_plays_the_same_game(victim, played):
    clone = {key: victim[key] for key in ("use", "weights", "normalise")}
    rows = [
        played(f"{isolation}.db", victim=victim, clone=clone, isolation=isolation)[0]
        for isolation in ("none", "process")
    ]
    assert [row.status for row in rows] == ["success"] * 2, rows[-1].error
    assert rows[0].clone_accuracy == rows[1].clone_accuracy


def test_setup_keeps_victims_of_one_cache_apart_by_code(trained, tmp_path, tiny_file, watcher):
    plans = []
    for number, activation in enumerate(("ReLU", "Tanh")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "net.py").write_text(CODE.replace("ReLU", activation))
        plans += load(str(tiny_file(victim={"use": f"{folder / 'net.py'}:Mine"}))).plans()
    setup = Setup(torch.device("cpu"), watcher)
    keys = [setup.victim_spec(plan).key(setup.images.splits(plan)) for plan in plans]
    assert keys[0]["network"] == keys[1]["network"] == "Mine"
    assert keys[0] != keys[1]


@pytest.fixture(scope="module")
def program(trained):
    """The trained network as an exported program, which normalises images itself."""

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = registry.build(
                f"{trained / 'net.py'}:Mine",
                num_classes=10,
                image_shape=(1, 8, 8),
                generator=torch.Generator().manual_seed(0),
            )
            take_weights(self.network, trained / "w.pt")

        def forward(self, images):
            return self.network((images - 0.5) / 0.5)

    sizes = ({0: torch.export.Dim("n", min=1)},)
    exported = torch.export.export(Whole().eval(), (torch.zeros(4, 1, 8, 8),), dynamic_shapes=sizes)
    torch.export.save(exported, trained / "a.pt2")
    return trained / "a.pt2"


def test_an_exported_program_is_served_as_it_is(program, played, monkeypatch):
    monkeypatch.setattr("envs.training.victims.fit", lambda *a, **k: pytest.fail("was trained"))
    defenders = [{"defence": "undefended"}, {"defence": "randp"}]
    rows = played(victim={"use": str(program), "recipe": {}}, defenders=defenders)
    assert [row.status for row in rows] == ["success"] * 2, rows[-1].error
    assert min(row.victim_accuracy for row in rows) > 0.9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"defenders": [{"defence": "dnf"}]}, "'dnf' needs places for exit heads"),
        ({"defenders": [{"defence": "meco"}]}, "'meco' needs to .*"),
        ({"defenders": [{"defence": "grad"}]}, "'grad' needs to build a network of the victim's"),
        ({"victim": {"exits": ["a"]}}, "exits: .* has no layers by name"),
        ({"victim": {"weights": "w.pt"}}, "weights: 'a.pt2' holds its own"),
        ({"victim": {"params": {"a": 1}}}, "a file takes no parameters"),
        ({"clone": {"use": "PROGRAM"}}, "clone: .* cannot learn"),
    ],
)
def test_what_a_program_is_not_for_is_told_before_any_game(program, tiny_file, changes, said):
    if "clone" in changes:
        changes = {"clone": {"use": str(program)}}
    victim = {"use": str(program), "recipe": {}, **changes.get("victim", {})}
    if "weights" in victim:
        victim["weights"] = str(program.parent / "w.pt")
    with pytest.raises(ScenarioError, match=said) as told:
        load(str(tiny_file(**{**changes, "victim": victim}))).check()
    assert "\n" not in str(told.value)


def test_where_a_program_lies_does_not_count_and_what_it_holds_does(program, tiny_file, tmp_path):
    def identity(path):
        return load(str(tiny_file(victim={"use": str(path), "recipe": {}}))).plans()[0].hash

    other = tmp_path / "other.pt2"
    other.write_bytes(program.read_bytes())
    assert identity(other) == identity(program)
    other.write_bytes(program.read_bytes() + b" ")
    assert identity(other) != identity(program)


def test_reading_a_program_of_a_stranger_is_asked_for(program, tiny_file):
    path = str(tiny_file(victim={"use": str(program), "recipe": {}}))
    told = CliRunner().invoke(app, ["scenarios", "check", path])
    assert told.exit_code == 2
    assert "a.pt2, and an import runs" in told.output
    assert CliRunner().invoke(app, ["scenarios", "check", path, "--trust-plugins"]).exit_code == 0
