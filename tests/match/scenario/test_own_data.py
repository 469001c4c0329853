"""Data sets of others in scenarios: what identifies them, and a game on one."""

import textwrap

import numpy as np
import pytest
from PIL import Image

from arena.log.store import Log
from arena.registry.listing import inventory
from arena.runner.match import play
from arena.scenario import Scenario
from arena.scenario.required_files import require_files
from envs.errors import DataMissing, ScenarioError

CODE = """
    import numpy as np

    def pictures(count, seed):
        shades = np.arange(count) % 4
        noise = np.random.default_rng(seed).integers(0, 60, (count, 8, 8))
        return (60 * shades[:, None, None] + noise).astype(np.uint8), shades

    def splits(*, seed: int = 0):
        return {"train": pictures(80, seed), "test": pictures(40, 9)}

    def pool():
        return pictures(30, 5)[0]

    def thirteen():
        images, shades = pictures(80, 0)
        return images, np.arange(80) % 13
"""


@pytest.fixture
def scenario(tmp_path, tiny):
    """Make the tiny scenario with data of a file."""
    (tmp_path / "data.py").write_text(textwrap.dedent(CODE))

    def make(name="splits", params=None, folder=tmp_path, **changes):
        data = {"use": f"{folder / 'data.py'}:{name}", "params": params or {}}
        return Scenario.parse(tiny(**{"data": data, "threat": {"budget": 100}, **changes}))

    return make


def identity(scenario):
    return scenario.plans()[0].hash


def test_images_count_and_neither_code_nor_places_do(scenario, tmp_path):
    before = identity(scenario())
    other = tmp_path / "other"
    other.mkdir()
    (other / "data.py").write_text("# a remark\n" + textwrap.dedent(CODE))
    moved = scenario(folder=other)
    moved.check()
    assert identity(moved) == before
    (other / "data.py").write_text(textwrap.dedent(CODE).replace("(0, 60,", "(0, 50,"))
    changed = scenario(folder=other)
    changed.check()
    assert identity(changed) != before
    assert identity(scenario(params={"seed": 1})) != before


def test_a_file_of_arrays_counts_by_its_content(tmp_path, tiny):
    def identity_of(file, seed):
        images = np.random.default_rng(seed).integers(0, 256, (60, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / file, images=images, labels=np.arange(60) % 3)
        data = {"use": "arrays", "root": str(tmp_path), "params": {"path": file}}
        return Scenario.parse(tiny(data=data)).plans()[0].hash

    assert identity_of("a.npz", 0) == identity_of("b.npz", 0) != identity_of("c.npz", 1)


def test_a_game_is_played_on_data_and_a_pool_of_others(scenario, tmp_path):
    pool = {"use": f"{tmp_path / 'data.py'}:pool"}
    attackers = [{"use": "knockoff", "params": {"budgets": [20], "epochs": 1}}]
    asked = scenario(threat={"budget": 20, "pool": pool}, attackers=attackers, checkpoints=1)
    asked.check()
    require_files(asked)
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(asked, log=log).episodes
    assert row.status == "success", row.error
    assert row.num_classes == 4
    assert row.test_overlap == 0


def test_a_pool_of_ones_own_test_images_is_refused(scenario, tmp_path):
    pool = {"use": f"{tmp_path / 'data.py'}:splits", "params": {"split": "test"}}
    with pytest.raises(ScenarioError, match=r"threat\.pool: .* that clones are scored on"):
        scenario(threat={"budget": 20, "pool": pool}).check()


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("gone", {}, "data: .*data.py: defines no 'gone'"),
        ("pool", {}, "data: .*it can only be a surrogate pool"),
        ("splits", {"seeds": 1}, "data.params.seeds: unknown parameter; did you mean 'seed'"),
        ("splits", {"seed": "a"}, "data.params.seed: expected a whole number"),
    ],
)
def test_what_is_wrong_with_data_is_told_in_one_line(scenario, name, params, said):
    with pytest.raises(ScenarioError, match=said) as told:
        scenario(name, params).check()
    assert "\n" not in str(told.value)


def test_thirteen_classes_for_a_network_of_ten_are_told(scenario, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef ten():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    victim = {"use": f"{tmp_path / 'net.py'}:ten"}
    with pytest.raises(ScenarioError, match=r"victim: .*\(2, 10\).* the data has 13 classes"):
        scenario("thirteen", victim=victim).check()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a"] * 10, "victim.class_names: expected a name for each of the 13 classes .* got 10"),
        (["a"] * 14, "each of the 13 classes of the data, got 14"),
    ],
)
def test_a_name_for_each_class_is_expected(scenario, names, said):
    with pytest.raises(ScenarioError, match=said) as told:
        scenario("thirteen", victim={"use": "mlp-small", "class_names": names}).check()
    assert "\n" not in str(told.value)
    scenario("thirteen", victim={"use": "mlp-small", "class_names": ["a"] * 13}).check()


@pytest.mark.parametrize("names", [[" "] * 10, [""] * 10, ["x" * 101] * 10, [1] * 10, "digits"])
def test_what_is_no_name_of_a_class_is_told(tiny, names):
    with pytest.raises(ScenarioError, match=r"victim\.class_names") as told:
        Scenario.parse(tiny(victim={"use": "mlp-small", "class_names": names}))
    assert len(set(str(told.value).splitlines())) <= 10


def test_a_data_set_of_a_distribution_is_found_and_listed(tmp_path, monkeypatch, tiny):
    (tmp_path / "their_data").mkdir()
    (tmp_path / "their_data" / "__init__.py").write_text(textwrap.dedent(CODE))
    info = tmp_path / "their_data-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_data\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[arena.datasets]\ntheir-set = their_data:splits\n")
    monkeypatch.syspath_prepend(tmp_path)
    (entry,) = [one for one in inventory("data") if one.name == "their-set"]
    assert (entry.origin, [one.name for one in entry.parameters]) == ("their_data", ["seed"])
    asked = Scenario.parse(tiny(data="their-set"))
    asked.check()
    assert asked.plans()[0].contents["data"]
    with pytest.raises(ScenarioError, match="no data set named 'their-sets'; did you mean"):
        Scenario.parse(tiny(data="their-sets")).check()


def test_a_missing_file_of_arrays_is_told_before_the_first_episode(tmp_path, tiny):
    data = {"use": "arrays", "root": str(tmp_path), "params": {"path": "gone.npz"}}
    with pytest.raises(DataMissing, match=r"no 'arrays' in .*gone\.npz"):
        require_files(Scenario.parse(tiny(data=data)))


def test_a_flat_folder_is_an_attackers_pool(tmp_path, tiny):
    (tmp_path / "shots").mkdir()
    for number in range(12):
        Image.new("RGB", (20 + number, 30), (number, 0, 0)).save(
            tmp_path / "shots" / f"{number}.jpg"
        )
    pool = {"use": "folder", "root": str(tmp_path / "shots")}
    attackers = [{"use": "knockoff", "params": {"budgets": [10], "epochs": 1}}]
    asked = Scenario.parse(
        tiny(threat={"budget": 10, "pool": pool}, attackers=attackers, checkpoints=1)
    )
    asked.check()
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(asked, log=log).episodes
    assert row.status == "success", row.error
