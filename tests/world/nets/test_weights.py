"""Published weights: found where they lie, never fetched, and refused where they do not fit."""

import hashlib

import pytest
import torch

from envs.errors import DataMissing, ScenarioError
from envs.nets import registry, weights
from envs.nets.multi_exit import with_heads

SHAPE = (3, 64, 64)


def _build(name="resnet34", *, num_classes=5, seed=0, shape=SHAPE, **params):
    generator = torch.Generator().manual_seed(seed)
    return registry.build(
        name, num_classes=num_classes, image_shape=shape, generator=generator, **params
    )


@pytest.fixture(scope="module")
def whole():
    """Torchvision's own ResNet-34 with running statistics of its own."""
    from torchvision import models

    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = models.resnet34(weights=None, num_classes=5)
        network.train()(torch.rand(4, *SHAPE))
    return network.eval()


@pytest.fixture(scope="module")
def file(whole, tmp_path_factory):
    """Its weights under the published name, the digest in the name being that of the file."""
    path = tmp_path_factory.mktemp("weights") / "draft.pth"
    torch.save(whole.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(path.with_name(f"resnet34-{digest}.pth"))


def test_a_file_of_weights_makes_the_network_answer_as_the_librarys_own(file, whole):
    network = _build(weights=str(file)).eval()
    images = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (network.plan.mean, network.plan.std))
    assert network.plan.mean == (0.485, 0.456, 0.406)
    with torch.no_grad():
        torch.testing.assert_close(network(images), whole((images - mean) / std))


def test_a_classifier_of_other_classes_is_drawn_and_the_rest_read(file, whole):
    network = _build(weights=str(file), num_classes=9)
    drawn = _build(num_classes=9)
    assert torch.equal(network.classifier.weight, drawn.classifier.weight)
    assert torch.equal(network.stages[3][0].conv1.weight, whole.layer4[0].conv1.weight)
    assert torch.equal(network.stages[3][0].bn1.running_var, whole.layer4[0].bn1.running_var)


def test_published_weights_are_looked_for_in_their_folder(file, monkeypatch):
    published = weights.Published(file.name, "https://example.org/x.pth")
    monkeypatch.setattr(weights, "PUBLISHED", {**weights.PUBLISHED, "resnet34": published})
    monkeypatch.setenv("ARENA_WEIGHTS", str(file.parent))
    assert weights.find("resnet34", "imagenet") == file
    assert weights.find("resnet34", file.name) == file
    _build(weights="imagenet")


def test_missing_weights_are_told_in_one_line_and_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_DATA", str(tmp_path))
    monkeypatch.delenv("ARENA_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataMissing) as caught:
        _build(weights="imagenet")
    line = str(caught.value)
    assert str(tmp_path / "weights" / "resnet34-b627a593.pth") in line
    assert "https://download.pytorch.org/models/resnet34-b627a593.pth" in line
    assert 'weights = ""' in line
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataMissing, match=r"no weights in mine\.pth nor in"):
        _build(weights="mine.pth")


def test_a_file_of_another_network_is_refused(file):
    with pytest.raises(DataMissing, match=r"is not for resnet50: expected layer1\.0\.conv1"):
        _build("resnet50", weights=str(file))


@pytest.mark.parametrize("content", [b"no weights", b""])
def test_a_damaged_file_is_refused(content, tmp_path):
    for name in ("some.pth", "some.safetensors"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataMissing, match=r"is no file of weights|is damaged"):
            weights.read(path)
    wrong = tmp_path / "resnet34-00000000.pth"
    wrong.write_bytes(content)
    with pytest.raises(DataMissing, match="SHA-256 does not begin with 00000000"):
        weights.read(wrong)
    torch.save({"state_dict": {"a": 1}}, tmp_path / "odd.pth")
    with pytest.raises(DataMissing, match="expected tensors by name"):
        weights.read(tmp_path / "odd.pth")


def test_weights_of_colour_are_not_put_on_grey_images(file):
    with pytest.raises(ScenarioError, match="images of 3 channels, got 1"):
        _build(weights=str(file), shape=(1, 64, 64))


def test_the_table_names_what_torchvision_publishes():
    from torchvision import models

    for name in ("resnet50", "resnet34", "vgg19", "vgg19_bn"):
        first = models.get_model_weights(name)["IMAGENET1K_V1"]
        published = weights.PUBLISHED[name]
        assert published.url == first.url
        assert list(published.mean) == first.transforms().mean


def test_the_table_names_what_timm_publishes():
    timm = pytest.importorskip("timm", reason="the table of timm's weights needs timm")
    for name, published in weights.PUBLISHED.items():
        if not published.repository:
            continue
        config = timm.get_pretrained_cfg(name)
        assert published.repository == config.hf_hub_id
        assert (published.mean, published.std) == (config.mean, config.std)


def test_a_frozen_body_neither_learns_nor_drifts():
    network = _build(frozen=True)
    learns = [name for name, p in network.named_parameters() if p.requires_grad]
    assert learns == ["classifier.weight", "classifier.bias"]
    before = {key: value.clone() for key, value in network.stages.state_dict().items()}
    network.train()(torch.rand(4, *SHAPE))
    assert all(torch.equal(before[k], v) for k, v in network.stages.state_dict().items())
    assert network.classifier.training
    assert not network.stages[0].training


def test_a_network_that_enlarges_its_images_answers_as_if_they_had_come_so():
    small = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    large = torch.nn.functional.interpolate(small, size=64, mode="bilinear", antialias=True)
    inside = _build(shape=(3, 32, 32), enlarge=64).eval()
    assert inside.image_shape == (3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(inside(small), _build().eval()(large))


def test_heads_follow_the_kind_of_network():
    birds = registry.outline("resnet50", num_classes=200, image_shape=(3, 224, 224))
    assert not any(head.relu for head in with_heads(birds).heads)
    plain = registry.outline("resnet18-8x", num_classes=10, image_shape=(3, 32, 32))
    assert all(head.relu and not head.layer_norm for head in with_heads(plain).heads)
    assert all(head.relu for head in with_heads(birds, relu=True).heads)


def test_the_weights_a_victim_starts_from_bear_on_its_address_in_the_cache(file, tmp_path):
    from envs.data.sources import load
    from envs.training.recipes import recipe
    from envs.training.victims import VictimTraining

    digits = load("digits")
    other = tmp_path / "other.pth"
    torch.save({}, other)
    keys = [
        VictimTraining("resnet34", recipe("digits"), params).key(digits)
        for params in ({}, {"weights": str(file)}, {"weights": str(other)})
    ]
    assert "start" not in keys[0]
    assert keys[1]["start"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert keys[1]["start"] != keys[2]["start"]
