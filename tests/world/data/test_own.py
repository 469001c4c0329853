"""Data sets of others: functions of a file, folders of the library datasets, flat folders."""

import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

from envs.data import own, places, sources
from envs.data.folders import folder_splits
from envs.data.pictures import Picture, decoded, sides_of
from envs.data.sources import load, load_pool
from envs.errors import ArenaError, DataMissing, ScenarioError, UnknownName

CODE = """
    import numpy as np
    from pathlib import Path

    def pictures(count, seed):
        return np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)

    def splits(root: Path, *, count: int = 40, seed: int = 0):
        '''Pictures of a test.'''
        with (Path(root) / "calls").open("a") as file:
            file.write("x")
        labels = np.arange(count) % 4
        return {"train": (pictures(count, seed), labels), "test": (pictures(20, 9), labels[:20])}

    def pool():
        return pictures(30, 1)

    def fails():
        raise ValueError("no such luck")

    def nothing():
        return None

    number = 3
"""


@pytest.fixture(autouse=True)
def _anew():
    own.forget()


@pytest.fixture
def use(tmp_path):
    """Name something of a file of data sets."""
    (tmp_path / "data.py").write_text(textwrap.dedent(CODE))
    return lambda name: f"{tmp_path / 'data.py'}:{name}"


def pool_of(name, **options):
    generator = torch.Generator().manual_seed(0)
    return load_pool(name, image_shape=(1, 8, 8), generator=generator, **options)


def test_a_function_gives_a_data_set_and_takes_parameters(use, tmp_path):
    splits = load(use("splits"), root=tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.held_out)) == (36, 4, 20)
    assert splits.name == "splits"
    more = load(use("splits"), root=tmp_path, count=80)
    assert len(more.train) == 72
    assert sources.form_of(use("splits"), root=tmp_path) == ((1, 8, 8), 4)
    assert len(pool_of(use("splits"), root=tmp_path, split="test", count=5)) == 5


def test_it_is_called_once_until_it_is_forgotten(use, tmp_path):
    for _ in range(2):
        load(use("splits"), root=tmp_path)
        sources.digest_of(use("splits"), root=tmp_path)
        sources.form_of(use("splits"), root=tmp_path)  # gives the defaults too
    assert (tmp_path / "calls").read_text() == "x"
    own.forget()
    load(use("splits"), root=tmp_path)
    assert (tmp_path / "calls").read_text() == "xx"


def test_a_digest_is_of_images_and_not_of_places(use, tmp_path):
    before = sources.digest_of(use("splits"), root=tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text(textwrap.dedent(CODE) + "\n# a remark\n")
    assert sources.digest_of(f"{other / 'mine.py'}:splits", root=other) == before
    assert sources.digest_of(use("splits"), root=tmp_path, seed=1) != before


def test_images_without_labels_are_a_pool_alone(use):
    assert len(pool_of(use("pool"))) == 30
    with pytest.raises(ArenaError, match="it can only be a surrogate pool"):
        load(use("pool"))


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("fails", ScenarioError, r"data.py:\d+: ValueError: no such luck"),
        ("nothing", ArenaError, "'nothing': expected images, .* got NoneType"),
        ("number", ScenarioError, "expected a function that returns images, got int"),
        ("gone", ScenarioError, "defines no 'gone'"),
        ("Path", ScenarioError, "expected a function that returns images, got Path"),
    ],
)
def test_what_is_no_data_set_is_told_in_one_line(use, name, error, said):
    with pytest.raises(error, match=said) as told:
        load(use(name))
    assert "\n" not in str(told.value)


def test_a_parameter_that_it_does_not_take_is_told(use, tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'count'"):
        load(use("splits"), root=tmp_path, counts=3)


# Folders that `datasets` saved


@pytest.fixture
def saved(tmp_path):
    """Save a data set with images of one colour per class; gives the folder."""
    datasets = pytest.importorskip("datasets", reason="folders of datasets need datasets")

    def save(name, count=20, labels=True, split=None, side=8):
        columns = {"image": datasets.Image()}
        rows = {
            "image": [Image.new("RGB", (side, side), (k % 2 * 200, k, 0)) for k in range(count)]
        }
        if labels:
            columns["label"] = datasets.ClassLabel(names=["dark", "red"])
            rows["label"] = [k % 2 for k in range(count)]
        table = datasets.Dataset.from_dict(rows, features=datasets.Features(columns))
        if split:
            table = datasets.DatasetDict(dict.fromkeys(split, table))
        table.save_to_disk(tmp_path / name)
        return tmp_path

    return save


def test_a_saved_data_set_is_read_with_its_classes(saved):
    splits = load("hf-dataset", root=saved("a", split=("train", "test")), path="a")
    assert splits.train.classes == ("dark", "red")
    reds = splits.train.pixels[:, 0, 0, 0]
    assert torch.equal(reds == 200, splits.train.labels == 1)
    assert len(load("hf-dataset", root=saved("b"), path="b", test=5).held_out) == 5


def test_its_content_counts_and_how_it_was_made_does_not(saved):
    from arena.scenario.contents import of_data
    from arena.scenario.schema_parts import DataSpec

    root = saved("a")
    saved("b")
    saved("c", count=30)
    first, same, other = (
        of_data(DataSpec(use="hf-dataset", root=root, params={"path": name})) for name in "abc"
    )
    assert first == same
    assert first != other


def test_a_saved_data_set_without_labels_is_a_pool(saved):
    root = saved("a", labels=False)
    assert len(pool_of("hf-dataset", root=root, path="a", grey=True)) == 20
    with pytest.raises(ArenaError, match="it can only be a surrogate pool"):
        load("hf-dataset", root=root, path="a")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "picture"}, r"no column 'picture' of images; the columns of images are"),
        ({"label": "image"}, "no column 'image' of class labels"),
        ({"path": "gone"}, "no folder .*gone"),
        ({"path": "."}, "is no data set that save_to_disk wrote"),
    ],
)
def test_what_is_wrong_with_a_saved_data_set_is_told_in_one_line(saved, options, said):
    root = saved("a")
    with pytest.raises(ArenaError, match=said) as told:
        load("hf-dataset", root=root, **{"path": "a", **options})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("label", None, "some images have no label"),
        ("label", -1, "some images have no label"),
        ("image", None, "image 3 of 'a' is missing"),
    ],
)
def test_a_row_that_lacks_something_is_told_in_one_line(tmp_path, column, value, said):
    datasets = pytest.importorskip("datasets", reason="folders of datasets need datasets")
    rows = {"image": [Image.new("L", (8, 8), k) for k in range(20)], "label": [0, 1] * 10}
    rows[column][3] = value
    columns = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(columns))
    table.save_to_disk(tmp_path / "a")
    with pytest.raises(ArenaError, match=said) as told:
        load("hf-dataset", root=tmp_path, path="a")
    assert "\n" not in str(told.value)


def test_splits_that_number_their_classes_otherwise_are_refused(tmp_path):
    datasets = pytest.importorskip("datasets", reason="folders of datasets need datasets")
    parts = {}
    for part, names in (("train", ["cat", "dog"]), ("test", ["dog", "cat"])):
        columns = {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
        rows = {"image": [Image.new("L", (8, 8), k) for k in range(20)], "label": [0, 1] * 10}
        parts[part] = datasets.Dataset.from_dict(rows, features=datasets.Features(columns))
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "a")
    with pytest.raises(ArenaError, match="one order in every part, got cat, dog and dog, cat"):
        load("hf-dataset", root=tmp_path, path="a")


def test_without_the_library_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DataMissing, match=r"pip install 'fortress-arena\[datasets\]'"):
        load("hf-dataset", root=tmp_path, path=".")


@pytest.mark.parametrize("name", ["arrays", "hf-dataset"])
def test_a_path_is_needed_and_looked_for(tmp_path, name):
    with pytest.raises(DataMissing, match=r"name it with params\.path"):
        places.require(name, root=tmp_path)
    with pytest.raises(DataMissing, match=f"no '{name}' in .*gone"):
        places.require(name, root=tmp_path, path="gone")
    assert places.free_places(name, root=tmp_path) == []


# Folders of images as people have them


def test_a_flat_folder_is_a_pool_in_the_victims_size(tmp_path):
    for number, side in enumerate((8, 20, 600)):
        Image.new("L", (side, 2 * side), 40 * number).save(tmp_path / f"{number}.png")
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image")
    pool = pool_of("folder", root=tmp_path)
    assert pool.pixels.shape == (3, 1, 8, 8)
    assert pool.pixels[:, 0, 0, 0].tolist() == [0, 40, 80]
    with pytest.raises(DataMissing, match="expected CLASS/FILE"):
        load("folder", root=tmp_path)


def test_a_folder_with_classes_stays_one_as_a_pool(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(10):
        Image.new("L", (8, 8), number).save(tmp_path / "a" / f"{number}.png")
    Image.new("L", (8, 8), 200).save(tmp_path / "stray.png")
    assert pool_of("folder", root=tmp_path, split="all").pixels.max() < 200


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_a_photograph_stands_as_its_camera_was_held(tmp_path, orientation, kind):
    scene = np.zeros((8, 16), dtype=np.uint8)
    scene[:, :8] = 255
    scene[:4] //= 2
    upright = Image.fromarray(scene)
    inverse = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
               4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
               6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
               8: Image.Transpose.ROTATE_270}  # fmt: skip
    stored = upright.transpose(inverse[orientation]) if orientation in inverse else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"photo.{kind}"
    stored.save(file, exif=exif, **({"quality": 100} if kind != "png" else {}))
    read = decoded(Picture(file, "photo"), size=None, grey=True, cover=False)
    assert read.shape == (1, 8, 16)
    assert sides_of(file) == (8, 16)
    difference = (read[0].int() - torch.from_numpy(scene).int()).abs()
    assert difference.float().mean() < 8


def test_folders_of_photographs_agree_on_their_shape_upright(tmp_path):
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(10):
        across = number % 2 == 0
        image = Image.new("L", (8, 16) if across else (16, 8), number)
        image.save(tmp_path / "a" / f"{number}.png", **({"exif": exif} if across else {}))
    assert folder_splits(root=tmp_path).train.image_shape == (3, 8, 16)
