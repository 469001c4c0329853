"""Images in arrays: in NumPy files, and as other people's functions return them."""

import numpy as np
import pytest
import torch

from envs.data.arrays import Division, as_images
from envs.data.images import ImageSet
from envs.data.pixel_arrays import pixels_of
from envs.data.sources import form_of, load, load_pool
from envs.errors import ArenaError, DataMissing


def pictures(count=40, shape=(8, 8), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def classes(count=40, k=4):
    return np.arange(count) % k


def as_set(found, **division):
    return as_images(found, "mine", Division(**division))


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (pictures(5), (5, 1, 8, 8)),
        (pictures(5, (8, 8, 3)), (5, 3, 8, 8)),
        (pictures(5, (8, 6, 1)), (5, 1, 8, 6)),
        (pictures(5, (3, 8, 6)), (5, 3, 8, 6)),
        (torch.zeros(5, 1, 4, 4), (5, 1, 4, 4)),
    ],
)
def test_the_place_of_the_channels_is_found(array, shape):
    assert pixels_of(array, "a").shape == shape


def test_channels_that_come_last_keep_their_values():
    array = pictures(2, (4, 5, 3))
    assert np.array_equal(pixels_of(array, "a").permute(0, 2, 3, 1).numpy(), array)


@pytest.mark.parametrize(
    "array",
    [
        np.array([0, 51, 255], dtype=np.uint8),
        np.array([0, 51, 255], dtype=np.int64),
        np.array([0.0, 0.2, 1.0], dtype=np.float64),
        np.array([0, 51 * 257, 65535], dtype=np.uint16),
        np.array([0, 51 * 257, 65535], dtype=">u2"),
    ],
)
def test_every_kind_of_number_gives_the_same_bytes(array):
    assert pixels_of(array.reshape(3, 1, 1), "a").flatten().tolist() == [0, 51, 255]


@pytest.mark.parametrize(
    "array",
    [
        np.full((2, 4, 4), 1.5),
        np.full((2, 4, 4), -1),
        np.full((2, 4, 4), np.nan),
        np.full((2, 4, 4), 300),
        np.full((2, 4, 4), 200, dtype=np.uint16),
        np.full((2, 4, 4), "a"),
        np.zeros((2, 16)),
        np.zeros((2, 4, 4, 4)),
        np.zeros((0, 4, 4)),
        np.zeros((2, 3, 4, 4, 4)),
    ],
)
def test_what_is_no_array_of_images_is_told_in_one_line(array):
    with pytest.raises(ArenaError, match=r"'a': expected .*, got") as told:
        pixels_of(array, "a")
    assert "\n" not in str(told.value)


NAMES = [
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("X_train", "Y_train", "X_test", "Y_test"),
    ("train.x", "train.y", "test.x", "test.y"),
]


@pytest.mark.parametrize("names", NAMES)
def test_parts_are_found_by_the_names_of_arrays(tmp_path, names):
    values = (pictures(30), classes(30), pictures(20, seed=1), classes(20))
    np.savez(tmp_path / "a.npz", **dict(zip(names, values, strict=True)))
    splits = load("arrays", root=tmp_path, path="a.npz")
    assert (len(splits.train), len(splits.validation), len(splits.held_out)) == (27, 3, 20)
    assert splits.num_classes == 4
    assert form_of("arrays", root=tmp_path, path="a.npz") == ((1, 8, 8), 4)


def test_images_without_parts_are_divided_as_a_folder_is():
    splits = as_set((pictures(40), classes(40)), validation=8, test=12)
    assert (len(splits.train), len(splits.validation), len(splits.held_out)) == (20, 8, 12)
    assert splits.train.labels.bincount().tolist() == [5, 5, 5, 5]


def test_labels_may_be_texts_or_a_column_and_classes_have_names():
    texts = np.array(["cat", "ant", "bee", "ant"] * 10)
    assert as_set((pictures(), texts)).train.classes == ("ant", "bee", "cat")
    named = {"images": pictures(), "labels": classes()[:, None], "classes": list("wxyz")}
    assert as_set(named).train.classes == ("w", "x", "y", "z")


def test_a_fingerprint_is_of_images_and_labels(tmp_path):
    def fingerprint(file, images, labels):
        np.savez(tmp_path / file, images=images, labels=labels)
        return load("arrays", root=tmp_path, path=file).fingerprint

    first = fingerprint("a.npz", pictures(), classes())
    assert fingerprint("b.npz", pictures(), classes()) == first
    assert fingerprint("c.npz", pictures(seed=1), classes()) != first
    assert fingerprint("d.npz", pictures(), classes()[::-1].copy()) != first


def test_bytes_name_classes_as_texts_do():
    texts = np.array([b"cat", b"ant", b"bee", b"ant"] * 10)
    assert as_set((pictures(), texts)).train.classes == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0.0, np.nan] * 20),
        np.array([0.0, np.inf] * 20),
        np.array([0.5, 1.0] * 20),
        np.array([1j, 1] * 20),
        np.array(["2020-01-01", "2020-01-02"] * 20, dtype="datetime64[D]"),
        np.array(3),
    ],
)
def test_labels_that_are_none_are_told_in_one_line(tmp_path, labels):
    np.savez(tmp_path / "a.npz", images=pictures(), labels=labels)
    with pytest.raises(ArenaError, match=r"'a': expected .*label.*, got") as told:
        load("arrays", root=tmp_path, path="a.npz")
    assert "\n" not in str(told.value)


def test_texts_in_one_part_and_numbers_in_the_other_are_told_in_one_line(tmp_path):
    numbers, texts = (pictures(), classes()), (pictures(), classes().astype(str))
    for train, test in ((numbers, texts), (texts, numbers)):
        with pytest.raises(ArenaError, match="or texts in every part, got"):
            as_set({"train": train, "test": test})


def test_a_few_training_images_hold_one_out_to_set_thresholds_on():
    parts = {"train": (pictures(4), classes(4)), "test": (pictures(9), classes(9))}
    assert (len(as_set(parts).train), len(as_set(parts).validation)) == (3, 1)


def test_parts_keep_the_names_of_their_classes_and_have_them_in_one_order():
    def part(count, names):
        return ImageSet(torch.from_numpy(pictures(count))[:, None],
                        torch.from_numpy(classes(count, 2)), 2, "x", tuple(names))  # fmt: skip

    assert as_set({"train": part(30, "ab"), "test": part(9, "ab")}).test.classes == ("a", "b")
    with pytest.raises(ArenaError, match="one order in every part, got a, b and b, a"):
        as_set({"train": part(30, "ab"), "test": part(9, "ba")})


@pytest.mark.parametrize("file", ["a.npy", "a.npz"])
def test_images_without_labels_are_a_pool_and_no_data_set(tmp_path, file):
    (np.save if file.endswith("npy") else np.savez)(tmp_path / file, pictures(12))
    generator = torch.Generator().manual_seed(0)
    pool = load_pool("arrays", root=tmp_path, path=file, image_shape=(3, 4, 4),
                     generator=generator, count=5)  # fmt: skip
    assert pool.pixels.shape == (5, 3, 4, 4)
    with pytest.raises(ArenaError, match="images without labels, it can only be a surrogate pool"):
        load("arrays", root=tmp_path, path=file)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"pixels": 1}, "expected arrays named images and labels, .* got pixels"),
        ({"train_images": pictures(), "train_labels": classes()}, "the parts train and test"),
        ({"labels": classes()}, "expected arrays named images and labels"),
        ((pictures(40), classes(39)), r"one label for each of 40 images, got \(39,\)"),
        ((pictures(40), classes() - 1), "expected labels from 0 to 2, got -1"),
        ((pictures(40), classes() + 0.5), "expected labels as whole numbers"),
        ((pictures(40), classes() * 10**6), "expected labels from 0 to K - 1"),
        ((pictures(40), np.eye(40)), "one label for each of 40 images"),
        (3, "expected images, .* got int"),
        (None, "got NoneType"),
        (
            {"train": (pictures(), classes()), "test": (pictures(20, (9, 9)), classes(20))},
            "the images of its parts differ in shape",
        ),
        (
            {"train": (pictures(), np.array(["a", "b"] * 20)),
             "test": (pictures(20), np.array(["a", "c"] * 10))},
            "has images of class 'c'",
        ),
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_told_in_one_line(found, said):
    with pytest.raises(ArenaError, match=said) as told:
        as_set(found)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"text", b"PK\x03\x04broken", b""])
@pytest.mark.parametrize("file", ["a.npz", "a.npy"])
def test_a_damaged_file_is_named(tmp_path, content, file):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataMissing, match=f"cannot read the arrays of .*{file}"):
        load("arrays", root=tmp_path, path=file)


def test_pickled_arrays_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataMissing, match="cannot read the arrays"):
        load_pool("arrays", root=tmp_path, path="a.npy", image_shape=(1, 8, 8),
                  generator=torch.Generator())  # fmt: skip


def test_sets_of_ours_are_taken_as_they_are():
    splits = as_set((pictures(), classes()))
    assert as_set(splits) is splits
    images = ImageSet(splits.train.pixels, splits.train.labels, 4, "x", tuple("abcd"))
    parts = as_set({"train": images, "test": images})
    assert len(parts.held_out) == len(images)


@pytest.mark.parametrize("order", [("train", "test"), ("test", "train")])
def test_classes_are_those_of_the_training_images_in_whatever_order_parts_lie(order):
    labels = {"train": np.array(list("abc") * 10), "test": np.array(list("ab") * 10)}
    found = {}
    for part in order:
        found[f"{part}_images"] = pictures(len(labels[part]))
        found[f"{part}_labels"] = labels[part]
    splits = as_set(found)
    assert splits.train.classes == splits.test.classes == ("a", "b", "c")
