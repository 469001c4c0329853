"""Folders of images as file managers and cameras leave them."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from envs.data.folders import folder_form, folder_splits, images_below
from envs.data.sources import load, load_pool
from envs.errors import ArenaError, DataMissing


def grey(value, side=8):
    return Image.fromarray(np.full((side, side), value, dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    for label in ("ants", "bees"):
        (tmp_path / label).mkdir()
        for number in range(10):
            grey(40 * number // 4).save(tmp_path / label / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".thumbnails", "__MACOSX"])
def test_a_hidden_folder_is_no_class(folder, hidden):
    (folder / hidden).mkdir()
    grey(0).save(folder / hidden / "0.png")
    splits = folder_splits(root=folder)
    assert splits.train.classes == ("ants", "bees")
    assert splits.train.labels.unique().tolist() == [0, 1]
    assert folder_form(folder) == ((3, 8, 8), 2)


def test_hidden_files_and_folders_in_a_class_are_no_images(folder):
    (folder / "ants" / "._0.png").write_bytes(b"resource fork")
    (folder / "ants" / ".trash").mkdir()
    grey(0).save(folder / "ants" / ".trash" / "0.png")
    (folder / "ants" / "folder.png").mkdir()
    assert len(images_below(folder / "ants")) == 10


def test_a_class_without_images_is_named(folder):
    (folder / "cats").mkdir()
    with pytest.raises(DataMissing, match=r"no images in .*cats, which would be a class without"):
        folder_splits(root=folder)


@pytest.mark.parametrize("value", [0, 100, 200, 255])
def test_16_bits_of_grey_are_scaled_to_8(tmp_path, value):
    (tmp_path / "a").mkdir()
    deep = np.full((8, 8), value * 257, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a" / "deep.png")
    for number in range(9):
        grey(value).save(tmp_path / "a" / f"{number}.png")
    pixels = folder_splits(root=tmp_path, grey=True, validation=1, test=1).train.pixels
    assert pixels.unique().tolist() == [value]


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGBA", "LA"])
def test_every_kind_of_png_gives_its_colours(tmp_path, mode):
    (tmp_path / "a").mkdir()
    white = Image.new("RGB", (8, 8), "white").convert(mode)
    for number in range(10):
        white.save(tmp_path / "a" / f"{number}.png")
    assert folder_splits(root=tmp_path).train.pixels.unique().tolist() == [255]


@pytest.mark.parametrize("suffix", ["tif", "TIFF", "gif", "ppm", "bmp", "webp", "jfif"])
def test_no_image_of_a_class_is_passed_over_for_its_kind(tmp_path, suffix):
    (tmp_path / "a").mkdir()
    for number in range(10):
        white = Image.new("RGB", (8, 8), "white")
        white.save(tmp_path / "a" / f"{number}.{suffix if number else 'png'}",
                   format="jpeg" if suffix == "jfif" and number else None)  # fmt: skip
    splits = folder_splits(root=tmp_path)
    assert sum(map(len, splits.parts.values())) == 10
    assert splits.train.pixels.unique().tolist() == [255]


def test_an_image_of_floats_is_refused_in_one_line(folder):
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(folder / "ants" / "float.tif")
    with pytest.raises(DataMissing, match=r"float\.tif: ValueError: floats"):
        folder_splits(root=folder)


def test_a_palette_with_transparent_entries_is_read(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(10):
        image = Image.new("RGB", (8, 8), "white").convert("P")
        image.save(tmp_path / "a" / f"{number}.png", transparency=bytes([0, 128, 255]))
    assert folder_splits(root=tmp_path).train.pixels.unique().tolist() == [255]


@pytest.mark.parametrize("size", [(600, 20), (20, 600), (2000, 1500)])
def test_photographs_need_a_size(folder, size):
    Image.new("RGB", size).save(folder / "ants" / "photo.jpg")
    with pytest.raises(ArenaError, match=r"photo.jpg has \d+ x \d+ pixels, .* set 'size'"):
        folder_splits(root=folder)
    assert folder_splits(root=folder, size=8).image_shape == (3, 8, 8)


@pytest.mark.parametrize("cut", [0, 30, 45])
def test_a_damaged_image_is_named(folder, cut):
    file = folder / "bees" / "3.png"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataMissing, match=r"cannot read the image .*3\.png"):
        folder_splits(root=folder)


def test_a_game_needs_test_images_and_a_pool_does_not(folder):
    with pytest.raises(ArenaError, match="0 test images; expected at least 3"):
        load("folder", root=folder, test=0)
    pool = load_pool(
        "folder", root=folder, image_shape=(1, 8, 8), generator=torch.Generator(), test=0
    )
    assert len(pool) == 18  # a pool is cut out of the training images alone


def test_one_image_of_each_class_is_too_few(folder):
    for file in images_below(folder):
        if file.stem != "0":
            file.unlink()
    with pytest.raises(ArenaError, match="expected at least 3"):
        load("folder", root=folder)


@pytest.mark.filterwarnings("ignore")  # Pillow's, which reads it all the same
def test_a_photograph_with_damaged_camera_data_is_read(tmp_path):
    (tmp_path / "ants").mkdir()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x1a\0\x05\0\0\0\x09\0\0\xff\xf0\0\0\0\0"
    grey(200).save(tmp_path / "ants" / "0.jpg", exif=exif)
    pixels = load_pool("folder", root=tmp_path, image_shape=(1, 8, 8), split="all",
                       generator=torch.Generator(), grey=True).pixels  # fmt: skip
    assert (pixels.int() - 200).abs().max() <= 2


def test_an_image_too_large_to_open_has_no_form(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)
    assert folder_form(folder) is None


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Test"), ("training", "testing")])
def test_parts_by_other_names_are_not_taken_for_classes(folder, tmp_path, names):
    whole = tmp_path / "whole"
    for name in names:
        for label in ("ants", "bees"):
            shutil.copytree(folder / label, whole / name / label)
    with pytest.raises(ArenaError, match="look like parts") as told:
        folder_splits(root=whole)
    assert "\n" not in str(told.value)
    assert folder_form(whole) is None
    pool = load_pool("folder", root=whole, image_shape=(1, 8, 8), generator=torch.Generator())
    assert len(pool)  # the labels of a pool say nothing


def test_a_class_may_be_called_train(folder):
    (folder / "bees").rename(folder / "train")
    (folder / "ants").rename(folder / "test")
    (folder / "test").rename(folder / "val")
    assert folder_splits(root=folder).train.classes == ("train", "val")
