"""The scenarios of the paper's tables: every row and column, with the paper's budgets."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arena.registry.listing import inventory
from arena.scenario import load
from arena.scenario.required_files import require_files
from envs.errors import DataMissing

FOLDER = Path(__file__).parents[3] / "scenarios" / "paper"
PATHS = sorted(FOLDER.glob("*.toml"))
DEFENDERS = ("undefended", "randp", "p-poison", "grad", "meco", "dnf")
CLONES = {
    "resnet18": "resnet18-8x", "mobilenetv2": "mobilenetv2", "densenet121": "densenet121",
    "resnet50": "resnet50", "resnet34": "resnet34", "vgg19": "vgg19", "vit": "vit-large",
    "cait": "cait-s36", "deit": "deit-base-distilled", "swin": "swin-large",
}  # fmt: skip
# data and labels: attacker, queries, columns, table, victim
PLAYED = {
    ("cifar10", "soft"): ("dfme", 20_000_000, 3, "table1a", "resnet34-8x"),
    ("cifar10", "hard"): ("dfms-hl", 8_000_000, 3, "table1b", "resnet34-8x"),
    ("cifar100", "soft"): ("dfme", 200_000_000, 3, "table1a", "resnet34-8x"),
    ("cifar100", "hard"): ("dfms-hl", 10_000_000, 3, "table1b", "resnet34-8x"),
    ("cub200", "soft"): ("knockoff", 23_000, 3, "table2a", "resnet50"),
    ("cub200", "hard"): ("knockoff", 23_000, 3, "table2b", "resnet50"),
    ("imagenet200", "soft"): ("knockoff", 10_000, 4, "table2a", "swin-large"),
    ("imagenet200", "hard"): ("knockoff", 10_000, 4, "table2b", "swin-large"),
}


def _parts(path: Path) -> tuple[str, str, str, str]:
    table, data, labels, clone = path.stem.split("_")
    return table, data, labels, clone


def test_every_column_of_both_tables_is_there():
    found = [_parts(path)[1:3] for path in PATHS]
    assert {key: found.count(key) for key in set(found)} == {
        key: columns for key, (_, _, columns, _, _) in PLAYED.items()
    }


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_column_is_played_as_published(path):
    table, data, labels, clone = _parts(path)
    attacker, budget, _, tag, victim = PLAYED[(data, labels)]
    scenario = load(path)
    scenario.check()
    assert scenario.name == path.stem
    assert tag.startswith(table)
    assert f"paper:{tag}" in scenario.tags
    assert sum(tag.startswith("column:") for tag in scenario.tags) == 1
    assert [d.name for d in scenario.defenders] == list(DEFENDERS)
    assert [d.defence[0].use for d in scenario.defenders] == list(DEFENDERS)
    assert [a.use for a in scenario.attackers] == [attacker]
    assert (scenario.threat.budget, scenario.threat.labels) == (budget, labels)
    assert (scenario.victim.use, scenario.clone.use) == (victim, CLONES[clone])
    assert len(scenario.seeds) == 3


def test_no_two_columns_have_one_heading():
    headings = [
        (tag, scenario.threat.labels)
        for scenario in map(load, PATHS)
        for tag in scenario.tags
        if tag.startswith("column:")
    ]
    assert len(set(headings)) == len(headings) == 26


def test_dfme_on_cifar100_has_the_settings_of_the_fortress_code():
    (attacker,) = load(FOLDER / "table1_cifar100_soft_mobilenetv2.toml").attackers
    assert attacker.params["directions"] == 5
    assert attacker.params["generator_rate"] == 1e-3
    assert attacker.params["epoch_length"] == 100


def test_bodies_of_the_imagenet200_clones_are_frozen():
    for path in FOLDER.glob("table2_imagenet200_*.toml"):
        scenario = load(path)
        assert scenario.clone.params["frozen"] is True
        assert scenario.victim.params["frozen"] is True


def _overrides(path: Path) -> list[list[str]]:
    """Return the overrides of each way to scale down that the head comment of a file shows."""
    lines = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]
    text = " ".join(lines).replace(" \\ ", " ")
    ways = re.findall(r"arena run paper/\S+((?: --\S+ \S+)+)", text)
    return [re.findall(r"--set (\S+)", way) for way in ways]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_ways_to_scale_down_are_in_order(path):
    ways = _overrides(path)
    assert ways
    for overrides in ways:
        scenario = load(path, overrides)
        scenario.check()
        assert scenario.threat.budget < load(path).threat.budget


def test_missing_files_are_told_before_anything_is_played(tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_DATA", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("ARENA_WEIGHTS", raising=False)
    with pytest.raises(DataMissing) as caught:
        require_files(load(FOLDER / "table1_cifar10_soft_resnet18.toml"))
    assert "cifar-10-batches-py" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataMissing) as caught:
        require_files(load(FOLDER / "table2_cub200_hard_resnet34.toml"))
    lines = str(caught.value).splitlines()
    assert [("CUB_200_2011" in line, "256_Object" in line, "resnet50-0676ba61.pth" in line,
             "resnet34-b627a593.pth" in line) for line in lines] == [
        (True, False, False, False), (False, True, False, False),
        (False, False, True, False), (False, False, False, True),
    ]  # fmt: skip


def test_nothing_is_played_or_logged_where_data_are_missing(tmp_path, monkeypatch):
    from arena.log.store import Log
    from arena.runner.match import play

    monkeypatch.setenv("ARENA_DATA", str(tmp_path / "nowhere"))
    with Log.open(tmp_path / "arena.db") as log:
        with pytest.raises(DataMissing, match=r"no 'cifar10' in .*nowhere"):
            play(load(FOLDER / "table1_cifar10_soft_resnet18.toml"), log=log)
        assert log.episodes() == []


def test_the_listing_says_what_data_and_networks_need():
    needs = {entry.name: entry.origin for entry in inventory("data")}
    assert needs["cifar10"].startswith("the data root: the folder cifar-10-batches-py")
    assert needs["cifar10"].endswith("or download = true")
    assert "https://data.caltech.edu" in needs["caltech256"]
    assert needs["digits"] == "built in"
    from_ = {entry.name: entry.origin for entry in inventory("networks")}
    assert from_["swin-large"] == "timm, extra 'vision'"
    assert (from_["resnet50"], from_["resnet18-8x"]) == ("torchvision", "built in")


def _write_birds(root: Path) -> None:
    """Write 60 pictures of two birds in the layout of CUB-200-2011; two thirds are training."""
    base, chance = root / "CUB_200_2011", np.random.default_rng(0)
    rows: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    for number in range(1, 61):
        kind = number % 2
        name = f"00{kind + 1}.Bird/{number}.png"
        (base / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        level = chance.integers(0, 100, (70, 80, 3)) + 100 * kind
        Image.fromarray(level.astype(np.uint8)).save(base / "images" / name)
        rows["images"].append(f"{number} {name}")
        rows["image_class_labels"].append(f"{number} {kind + 1}")
        rows["train_test_split"].append(f"{number} {int(number % 3 > 0)}")
    rows["classes"] = ["1 001.Bird", "2 002.Bird"]
    for file, lines in rows.items():
        (base / f"{file}.txt").write_text("\n".join(lines) + "\n")


def _write_things(root: Path) -> None:
    chance = np.random.default_rng(1)
    for name in ("001.ak47", "002.american-flag", "003.backpack"):
        folder = root / "256_ObjectCategories" / name
        folder.mkdir(parents=True)
        for i in range(100):
            pixels = chance.integers(0, 256, (70, 70, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:04d}.png")


def _write_tiny(root: Path) -> None:
    """Write pictures of two classes in the layout of Tiny-ImageNet."""
    chance = np.random.default_rng(2)
    for part, count in (("train", 20), ("val", 6)):
        for number, name in enumerate(("n01443537", "n01629819")):
            folder = root / "tiny-imagenet-200" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                level = chance.integers(0, 100, (64, 64, 3)) + 100 * number
                Image.fromarray(level.astype(np.uint8)).save(folder / f"{i}.png")


BIRDS = (
    "table2_cub200_soft_resnet50",
    [
        "data.params.size=64", "data.params.validation=10", "threat.pool.params.size=64",
        "threat.budget=200", "clone.use=resnet34", "victim.recipe.epochs=1",
    ],
)  # fmt: skip
TOKENS = (
    "table2_imagenet200_hard_deit",
    [
        "data.params.size=32", "data.params.validation=10", "threat.pool.params.size=32",
        "threat.budget=60", "victim.use=swin-tiny", "victim.params.enlarge=64",
        "clone.use=deit-tiny", "clone.params.enlarge=64", "victim.recipe.epochs=2",
    ],
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "smaller"), [BIRDS, TOKENS], ids=["birds", "tokens"])
def test_a_column_of_table_two_plays_to_its_end_on_made_up_photographs(
    name, smaller, tmp_path, monkeypatch
):
    """Every defence, from a folder in the official layout to a scored clone."""
    from arena.log.store import Log
    from arena.runner.match import play

    if "swin" in str(smaller):
        pytest.importorskip("timm", reason="the transformers need timm, extra 'vision'")
    for write in (_write_birds, _write_things, _write_tiny):
        write(tmp_path)
    monkeypatch.setenv("ARENA_DATA", str(tmp_path))
    monkeypatch.setenv("ARENA_CACHE", str(tmp_path / "cache"))
    scenario = load(
        FOLDER / f"{name}.toml",
        [
            *smaller, "seeds=[0]", 'victim.params.weights=""', 'clone.params.weights=""',
            "attackers.knockoff.params.epochs=1", "defenders.meco.params.epochs=1",
            "defenders.meco.params.scale=0.2", "defenders.grad.params.surrogate_epochs=1",
            "defenders.dnf.params.epochs=2",
        ],
    )  # fmt: skip
    scenario.check()
    with Log.open(tmp_path / "arena.db") as log:
        result = play(scenario, log=log)
    assert [(row.defender, row.status, row.error) for row in result.episodes] == [
        (defender, "success", None) for defender in DEFENDERS
    ]
    for row in result.episodes:
        assert row.queries_used == scenario.threat.budget
        assert 0 <= row.clone_accuracy <= 1
        assert row.served_accuracy is not None
