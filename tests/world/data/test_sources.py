"""Data sets and pools by name, on data that every machine has."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from envs.data import places, sources
from envs.data.digits import digits_splits
from envs.data.images import Splits
from envs.errors import ArenaError, DataMissing, UnknownName


@pytest.fixture(scope="module")
def digits() -> Splits:
    return digits_splits()


def test_the_digits_are_divided_897_300_600(digits: Splits):
    assert [len(p) for p in (digits.train, digits.validation, digits.held_out)] == [897, 300, 600]
    assert [len(p) for p in (digits.benign, digits.checkpoint, digits.test)] == [120, 120, 360]
    assert digits.image_shape == (1, 8, 8)
    assert digits.num_classes == 10


def test_no_digit_is_in_two_parts_and_none_is_lost(digits: Splits):
    from sklearn.datasets import load_digits

    def rows(pixels: torch.Tensor) -> list[tuple[int, ...]]:
        return [tuple(row) for row in pixels.flatten(1).int().tolist()]

    parts = [rows(part.pixels) for part in digits.parts.values()]
    raw = torch.from_numpy(load_digits().images).unsqueeze(1)
    whole = rows((raw * 255 / 16 + 1e-9).round())
    assert len(set(whole)) == 1797  # so that equal pixels would mean the same image
    assert sorted(row for part in parts for row in part) == sorted(whole)


def test_the_parts_of_the_digits_are_stratified(digits: Splits):
    whole = torch.zeros(10)
    for part in digits.parts.values():
        whole += torch.bincount(part.labels, minlength=10)
    for part in digits.parts.values():
        expected = whole * len(part) / 1797
        assert (torch.bincount(part.labels, minlength=10) - expected).abs().max() < 2


def test_the_sixteen_levels_of_a_digit_come_back(digits: Splits):
    levels = (digits.train.images() * 16).round()
    assert levels.unique().tolist() == list(range(17))
    assert torch.equal(((levels * 255 / 16) + 1e-6).round().byte(), digits.train.pixels)


def test_larger_digits_are_padded_or_stretched(digits: Splits):
    padded, stretched = (digits_splits(size=28, fit=fit).train for fit in ("pad", "stretch"))
    assert torch.equal(padded.labels, stretched.labels)
    assert torch.equal(padded.pixels[:, :, 10:18, 10:18], digits.train.pixels)
    assert int(padded.pixels[:, :, :10].max()) == 0
    means = [part.images().mean() for part in (digits.train, stretched)]
    torch.testing.assert_close(*means, atol=0.02, rtol=0)  # as bright as they were
    with pytest.raises(ArenaError, match="expected fit 'pad' or 'stretch', got 'crop'"):
        digits_splits(size=28, fit="crop")
    with pytest.raises(ArenaError):
        digits_splits(size=7, fit="stretch")


def test_the_digits_have_the_published_mean_and_deviation(digits: Splits):
    assert digits.mean == pytest.approx((0.305,), abs=0.001)
    assert digits.std == pytest.approx((0.376,), abs=0.001)


def test_the_digits_are_the_same_for_ever(digits: Splits):
    assert digits.fingerprint == "875acc58e498098a"
    assert digits_splits().fingerprint == digits.fingerprint


def test_padded_digits_keep_their_division(digits: Splits):
    large = sources.load("digits", size=28)
    assert large.image_shape == (1, 28, 28)
    assert torch.equal(large.test.pixels[:, :, 10:18, 10:18], digits.test.pixels)
    assert torch.equal(large.test.labels, digits.test.labels)
    with pytest.raises(ArenaError, match="at least 8 pixels, got 4"):
        sources.load("digits", size=4)


@pytest.mark.parametrize("name", sources.names())
def test_every_source_describes_itself_in_a_line(name: str):
    info = sources.describe(name)
    assert info.name == name
    assert 10 < len(info.summary) < 90
    assert "\n" not in info.summary


def test_a_misspelt_source_option_part_or_class_gets_a_suggestion(digits: Splits):
    generator = torch.Generator()
    with pytest.raises(UnknownName, match="did you mean 'cifar10'"):
        sources.load("cifra10")
    with pytest.raises(UnknownName, match="did you mean 'size'"):
        sources.load("digits", sise=28)
    with pytest.raises(UnknownName, match="did you mean 'train'"):
        sources.load_pool("digits", image_shape=(1, 8, 8), generator=generator, split="trian")
    with pytest.raises(UnknownName, match="no class of 'digits' named 'ten'"):
        sources.load_pool("digits", image_shape=(1, 8, 8), generator=generator, classes=["ten"])


@pytest.mark.parametrize("name", ["noise", "strokes"])
def test_a_pool_without_labels_cannot_be_played_on(name: str):
    with pytest.raises(ArenaError, match="only be a surrogate pool"):
        sources.load(name)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cifar10", "cifar-10-batches-py"),
        ("cifar100", "cifar-100-python"),
        ("cifar100-test", "cifar-100-python/test"),
        ("svhn", "train_32x32.mat"),
        ("svhn-test", "svhn_test_first10k.npz"),
        ("mnist", "MNIST/raw"),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("tiny-imagenet", "tiny-imagenet-200"),
        ("folder", "CLASS/FILE.png"),
    ],
)
def test_a_missing_set_says_in_one_line_what_to_put_where(name: str, wanted: str, tmp_path: Path):
    root = tmp_path / "nowhere"
    with pytest.raises(DataMissing) as caught:
        sources.load(name, root=root)
    line = str(caught.value)
    assert wanted in line
    assert str(root) in line
    assert "ARENA_DATA" in line
    assert "\n" not in line
    assert ("'download'" in line) == sources.describe(name).downloads


def test_data_are_looked_for_in_the_argument_then_the_variable_then_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("ARENA_DATA", str(tmp_path))
    assert places.data_root() == tmp_path
    assert places.data_root(Path("mine")) == Path("mine")
    monkeypatch.delenv("ARENA_DATA")
    assert places.data_root() == Path("data")


def test_a_set_that_cannot_be_downloaded_says_so(tmp_path: Path):
    with pytest.raises(ArenaError, match="cannot be downloaded"):
        sources.load("tiny-imagenet", root=tmp_path, download=True)


def test_a_damaged_file_is_refused_before_it_is_unpickled(tmp_path: Path):
    target = tmp_path / "cifar-100-python" / "test"
    target.parent.mkdir()
    target.write_bytes(b"cos\nsystem\n(S'false'\ntR.")  # a pickle that would run a program
    with pytest.raises(DataMissing, match="not the official test file"):
        sources.load("cifar100-test", root=tmp_path)


@pytest.mark.parametrize("fault", ["bytes", "key", "shape", "label"])
def test_a_damaged_npz_is_refused(fault: str, tmp_path: Path):
    file = tmp_path / "svhn_test_first10k.npz"
    pixels, labels = np.zeros((9, 32, 32, 3), np.uint8), np.zeros(9, np.uint8)
    if fault == "bytes":
        file.write_bytes(b"not a zip file")
    elif fault == "key":
        np.savez(file, X=pixels)
    else:
        labels = labels[1:] if fault == "shape" else labels + 11
        np.savez(file, X=pixels, y=labels)
    with pytest.raises(DataMissing, match="is damaged"):
        sources.load("svhn-test", root=tmp_path)


def test_the_digit_zero_of_svhn_may_be_called_ten_but_not_both(tmp_path: Path):
    file = tmp_path / "svhn_test_first10k.npz"
    pixels = np.zeros((40, 32, 32, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(40)
    labels = np.arange(40).astype(np.uint8) % 10
    seen = []
    for zero in (0, 10):
        np.savez(file, X=pixels, y=np.where(labels == 0, zero, labels))
        splits = sources.load("svhn-test", root=tmp_path, validation=10, test=10)
        assert torch.equal(splits.train.labels, splits.train.pixels[:, 0, 0, 0].long() % 10)
        seen.append(splits.fingerprint)
    assert seen[0] == seen[1]
    np.savez(file, X=pixels, y=np.where(np.arange(40) == 0, 10, labels))
    with pytest.raises(DataMissing, match=r"is damaged.*got both"):
        sources.load("svhn-test", root=tmp_path, validation=10, test=10)


def write_folder(folder: Path, classes: dict[str, int], size: tuple[int, int] = (6, 5)) -> None:
    """Write flat images whose grey level tells class and number."""
    for k, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, (k * 100 + i,) * 3).save(folder / name / f"{i:03d}.png")


def test_a_folder_of_images_becomes_a_stratified_data_set(tmp_path: Path):
    write_folder(tmp_path / "pets", {"cat": 20, "dog": 40})
    splits = sources.load("folder", root=tmp_path, path="pets")
    assert splits.name == "pets"
    assert splits.train.classes == ("cat", "dog")
    assert splits.image_shape == (3, 5, 6)  # written 6 wide and 5 high
    assert [len(p) for p in (splits.train, splits.validation, splits.held_out)] == [48, 6, 6]
    assert torch.bincount(splits.held_out.labels).tolist() == [2, 4]
    levels = torch.cat([part.pixels[:, 0, 0, 0] for part in splits.parts.values()])
    assert sorted(levels.tolist()) == [*range(20), *range(100, 140)]
    assert torch.equal(splits.train.labels, (splits.train.pixels[:, 0, 0, 0] >= 100).long())


def test_a_folder_with_train_and_test_keeps_them(tmp_path: Path):
    write_folder(tmp_path / "train", {"cat": 20, "dog": 20})
    write_folder(tmp_path / "test", {"dog": 3})
    splits = sources.load("folder", root=tmp_path, grey=True, size=4)
    assert splits.image_shape == (1, 4, 4)
    assert [len(p) for p in (splits.train, splits.validation, splits.held_out)] == [36, 4, 3]
    assert splits.held_out.labels.tolist() == [
        1,
        1,
        1,
    ]  # a dog, though the only class of its folder
    write_folder(tmp_path / "val", {"cat": 2})
    splits = sources.load("folder", root=tmp_path, grey=True, size=4)
    assert [len(p) for p in (splits.train, splits.validation)] == [40, 2]


def test_a_test_class_without_training_images_is_refused(tmp_path: Path):
    write_folder(tmp_path / "train", {"cat": 20})
    write_folder(tmp_path / "test", {"cow": 3})
    with pytest.raises(ArenaError, match="class 'cow', which has no training images"):
        sources.load("folder", root=tmp_path)


def test_images_of_two_sizes_need_a_size(tmp_path: Path):
    write_folder(tmp_path / "a", {"x": 15})
    write_folder(tmp_path / "a" / "more", {"y": 15}, size=(9, 9))
    with pytest.raises(ArenaError, match=r"images differ in size.*set 'size'"):
        sources.load("folder", root=tmp_path / "a")
    assert sources.load("folder", root=tmp_path / "a", size=7).image_shape == (3, 7, 7)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path):
    write_folder(tmp_path, {"cat": 4})
    (tmp_path / "cat" / "zzz.png").write_bytes(b"no image")
    with pytest.raises(DataMissing, match=r"zzz\.png"):
        sources.load("folder", root=tmp_path)


def test_tiny_imagenet_is_read_in_both_of_its_forms(tmp_path: Path):
    base = tmp_path / "tiny-imagenet-200"
    write_folder(base / "train", {"n01": 20, "n02": 20}, size=(64, 64))
    write_folder(base / "val", {"n01": 1, "n02": 2}, size=(64, 64))
    by_folder = sources.load("tiny-imagenet", root=tmp_path, size=8)
    assert by_folder.image_shape == (3, 8, 8)
    assert sorted(by_folder.held_out.labels.tolist()) == [0, 1, 1]
    # as it is distributed: images/ below a class, and a list of the validation images
    (base / "val" / "images").mkdir()
    rows = []
    for k, (name, old) in enumerate([("n01", "000"), ("n02", "000"), ("n02", "001")]):
        (base / "val" / name / f"{old}.png").rename(base / "val" / "images" / f"val_{k}.png")
        rows.append(f"val_{k}.png\t{name}\t0\t0\t63\t63")
    (base / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    listed = sources.load("tiny-imagenet", root=tmp_path, size=8)
    assert listed.fingerprint == by_folder.fingerprint


def test_a_pool_of_another_set_takes_the_victims_shape(digits: Splits):
    generator = torch.Generator().manual_seed(0)
    pool = sources.load_pool("digits", image_shape=(3, 32, 32), count=50, generator=generator)
    assert tuple(pool.pixels.shape) == (50, 3, 32, 32)
    assert torch.equal(pool.pixels[:, 0], pool.pixels[:, 2])


def test_a_pool_is_drawn_without_repeats_by_its_generator(digits: Splits):
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return sources.load_pool(
            "digits", image_shape=(1, 8, 8), count=200, generator=generator
        ).pixels

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert len(draw(1).flatten(1).unique(dim=0)) == 200


def test_a_pool_can_be_cut_to_a_part_and_to_classes(digits: Splits):
    pool = sources.load_pool(
        "digits",
        image_shape=(1, 8, 8),
        generator=torch.Generator(),
        split="test",
        classes=["3", "7"],
    )
    wanted = torch.isin(digits.test.labels, torch.tensor([3, 7]))
    assert torch.equal(pool.pixels, digits.test.pixels[wanted])
    assert pool.labels.unique().tolist() == [3, 7]
    whole = sources.load_pool(
        "digits", image_shape=(1, 8, 8), generator=torch.Generator(), split="all"
    )
    assert len(whole) == 1797


def test_a_pool_larger_than_its_set_is_refused(digits: Splits):
    with pytest.raises(ArenaError, match="pool of 900 images of 'digits', which has 897"):
        sources.load_pool("digits", image_shape=(1, 8, 8), count=900, generator=torch.Generator())
