"""CUB-200-2011 and Caltech-256 in their official layout, with made-up pictures."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from envs.data import places, sources
from envs.data.folders import read_files
from envs.errors import ArenaError, DataMissing

BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross")


def picture(path: Path, level: int, size: tuple[int, int] = (30, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Twenty birds of two kinds; each third is a test image."""
    base = tmp_path / "CUB_200_2011"
    images, labels, split = [], [], []
    for number in range(1, 21):
        kind = number % 2
        name = f"{BIRDS[kind]}/bird_{number:04d}.jpg"
        picture(base / "images" / name, 10 * number, (30 + number, 20))
        images.append(f"{number} {name}")
        labels.append(f"{number} {kind + 1}")
        split.append(f"{number} {int(number % 3 != 0)}")
    (base / "images.txt").write_text("\n".join(images) + "\n")
    (base / "image_class_labels.txt").write_text("\n".join(labels) + "\n")
    (base / "train_test_split.txt").write_text("\n".join(split) + "\n")
    (base / "classes.txt").write_text(f"1 {BIRDS[0]}\n2 {BIRDS[1]}\n")
    return tmp_path


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """Three classes of 30 pictures, of which the last is clutter."""
    for number, name in enumerate(("001.ak47", "002.american-flag", "257.clutter")):
        for i in range(30):
            picture(tmp_path / "256_ObjectCategories" / name / f"{i:04d}.jpg", 80 * number + i)
    return tmp_path


def test_birds_keep_their_official_division(birds: Path):
    splits = sources.load("cub200", root=birds, size=8, validation=4)
    assert [len(p) for p in (splits.train, splits.validation, splits.held_out)] == [10, 4, 6]
    assert splits.train.classes == BIRDS
    assert splits.image_shape == (3, 8, 8)
    tested = splits.held_out
    levels = (tested.pixels.float().mean((1, 2, 3)) / 10).round().int().tolist()
    assert sorted(levels) == [3, 6, 9, 12, 15, 18]
    assert tested.labels.tolist() == [level // 3 % 2 for level in levels]


def test_a_tenth_of_the_birds_is_held_out_unless_told(birds: Path):
    assert len(sources.load("cub200", root=birds, size=8).validation) == 1
    assert sources.describe("cub200").options["size"] == 224


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("images.txt", None, "expected the folder CUB_200_2011"),
        ("classes.txt", "1\n", "lines of a number and a text"),
        ("image_class_labels.txt", "1 1\n", "lists differ about image or class '2'"),
        ("image_class_labels.txt", "1 7\n", "lists differ about image or class '7'"),
    ],
)
def test_damaged_lists_of_birds_are_refused(file, text, message, birds: Path):
    path = birds / "CUB_200_2011" / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataMissing, match=message):
        sources.load("cub200", root=birds, size=8)


def test_twenty_five_of_each_thing_are_for_testing_and_clutter_is_left_out(things: Path):
    splits = sources.load("caltech256", root=things, size=8, validation=0)
    assert [len(p) for p in (splits.train, splits.validation, splits.held_out)] == [10, 0, 50]
    assert splits.train.classes == ("001.ak47", "002.american-flag")
    assert torch.bincount(splits.held_out.labels).tolist() == [25, 25]
    assert torch.bincount(splits.train.labels).tolist() == [5, 5]
    again = sources.load("caltech256", root=things, size=8, validation=0)
    assert again.fingerprint == splits.fingerprint
    assert sources.load("caltech256", root=things, size=8, seed=1).fingerprint != again.fingerprint


def test_things_are_a_pool_in_the_victims_shape(things: Path):
    pool = sources.load_pool(
        "caltech256",
        image_shape=(3, 8, 8),
        generator=torch.Generator().manual_seed(0),
        root=things,
        size=16,
        validation=0,
    )
    assert tuple(pool.pixels.shape) == (10, 3, 8, 8)


def test_things_may_lie_where_torchvision_puts_them(things: Path):
    (things / "caltech256").mkdir()
    (things / "256_ObjectCategories").rename(things / "caltech256" / "256_ObjectCategories")
    assert len(sources.load("caltech256", root=things, size=8).held_out) == 50


def test_a_thing_with_too_few_pictures_is_refused(things: Path):
    for i in range(6):
        (things / "256_ObjectCategories" / "001.ak47" / f"{i:04d}.jpg").unlink()
    with pytest.raises(ArenaError, match=r"001\.ak47' of Caltech-256 has 24 images, and 25"):
        sources.load("caltech256", root=things, size=8)


def test_photographs_keep_their_aspect_and_lose_their_margin(tmp_path: Path):
    wide = Image.new("RGB", (512, 256), (0, 0, 0))
    wide.paste((255, 255, 255), (144, 16, 368, 240))  # the middle 224 of a frame 256 high
    wide.save(tmp_path / "wide.png")
    files = [(tmp_path / "wide.png", "a")]
    whole = read_files(files, ("a",), "test", size=224, cover=True)
    assert bool((whole.pixels == 255).all())
    squeezed = read_files(files, ("a",), "test", size=224)
    assert bool((squeezed.pixels[:, :, 112, :30] == 0).all())


@pytest.mark.parametrize("name", ["cub200", "caltech256"])
def test_photographs_that_are_not_there_say_where_to_get_them(name, tmp_path: Path):
    for look in (sources.load, places.require):
        with pytest.raises(DataMissing, match=r"https://data\.caltech\.edu.*ARENA_DATA") as caught:
            look(name, root=tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sources.names())
def test_what_a_source_needs_is_looked_for_before_anything_is_read(name, tmp_path: Path):
    info = sources.describe(name)
    if not info.needs:
        places.require(name, root=tmp_path / "nowhere")
        return
    with pytest.raises(DataMissing) as caught:
        places.require(name, root=tmp_path / "nowhere")
    assert info.needs in str(caught.value)
    assert "\n" not in str(caught.value)
    if info.downloads:
        places.require(name, root=tmp_path / "nowhere", download=True)


def test_files_that_are_there_are_not_asked_for(birds: Path):
    places.require("cub200", root=birds)
    places.require("folder", root=birds, path="CUB_200_2011")
    with pytest.raises(DataMissing, match=r"no 'folder' in .*elsewhere"):
        places.require("folder", root=birds, path="elsewhere")
