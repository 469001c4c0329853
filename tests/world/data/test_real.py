"""The benchmark data sets from their real files, where ARENA_DATA holds them."""

import os
from pathlib import Path

import pytest
import torch

from envs.data import sources
from envs.data.images import bytes_to_unit
from envs.errors import DataMissing

pytestmark = pytest.mark.slow


def need(*files: str) -> Path:
    """Return the data root, or skip where one of the files is not below it."""
    root = os.environ.get("ARENA_DATA")
    if not root:
        pytest.skip("ARENA_DATA is not set, so there are no real data to read")
    for file in files:
        if not (Path(root) / file).exists():
            pytest.skip(f"{file} is not in ARENA_DATA")
    return Path(root)


def test_cifar10_from_its_official_files():
    data = sources.load("cifar10", root=need("cifar-10-batches-py"))
    assert [len(p) for p in (data.train, data.validation, data.held_out)] == [45_000, 5_000, 10_000]
    assert [len(p) for p in (data.benign, data.checkpoint, data.test)] == [1000, 1000, 8000]
    assert data.image_shape == (3, 32, 32)
    assert data.train.classes[0] == "airplane"
    assert torch.bincount(data.train.labels).tolist() == [4500] * 10
    assert torch.bincount(data.test.labels).tolist() == [800] * 10
    # published: mean over the 50,000 training images
    mean, std = data.train.mean_std()
    assert mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.0005)
    assert std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.0005)
    assert data.fingerprint == "2c495143537f5695"


def test_a_damaged_cifar10_is_refused(tmp_path: Path):
    source = need("cifar-10-batches-py") / "cifar-10-batches-py"
    target = tmp_path / "cifar-10-batches-py"
    target.mkdir()
    for file in source.iterdir():
        if file.is_file():
            (target / file.name).symlink_to(file)
    (target / "data_batch_3").unlink()
    (target / "data_batch_3").write_bytes((source / "data_batch_3").read_bytes()[:-1])
    with pytest.raises(DataMissing, match="or it is damaged"):
        sources.load("cifar10", root=tmp_path)


def test_the_test_images_of_cifar100_as_a_pool():
    root = need("cifar-100-python/test")
    generator = torch.Generator().manual_seed(0)
    pool = sources.load_pool(
        "cifar100-test",
        image_shape=(3, 32, 32),
        generator=generator,
        root=root,
        classes=["plate", "rose", "castle"],
    )
    assert len(pool) == 300
    assert {pool.classes[k] for k in pool.labels.unique().tolist()} == {"plate", "rose", "castle"}
    grey = sources.load_pool(
        "cifar100-test", image_shape=(1, 28, 28), count=64, generator=generator, root=root
    )
    assert tuple(grey.pixels.shape) == (64, 1, 28, 28)


def test_the_first_test_images_of_svhn():
    data = sources.load("svhn-test", root=need("svhn_test_first10k.npz"))
    assert sum(map(len, data.parts.values())) == 10_000
    assert data.train.labels.unique().tolist() == list(range(10))
    assert data.train.mean_std()[0] == pytest.approx((0.45, 0.45, 0.47), abs=0.01)


def test_tiny_imagenet_resized_to_the_size_of_cifar():
    data = sources.load("tiny-imagenet", root=need("tiny-imagenet-200/train"), size=32)
    assert data.image_shape == (3, 32, 32)
    assert data.num_classes == 200
    assert len(torch.bincount(data.train.labels).unique()) == 1  # all classes equally frequent
    assert 0.35 < float(bytes_to_unit(data.test.pixels[:500]).mean()) < 0.55
