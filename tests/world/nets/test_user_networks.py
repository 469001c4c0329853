"""Networks of others: built from files and libraries, cut into stages, given weights."""

import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from envs.errors import ArenaError, DataMissing, ScenarioError, UnknownName
from envs.exits.random_rules import ByHistogram
from envs.exits.rules import Thresholds
from envs.nets import registry
from envs.nets.adapter_stages import with_places
from envs.nets.exit_cost import backbone_macs, profile
from envs.nets.given_weights import take_weights
from envs.nets.multi_exit import MultiExit, with_heads
from envs.victim.compaction import FEWEST
from envs.victim.execution import run_compacted, run_masked

CODE = """
    import torch
    from torch import nn

    class Mine(nn.Module):
        def __init__(self, num_classes=10, width=8):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width))
            self.body = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(width, 2 * width, 3))
            self.head = nn.Linear(2 * width, num_classes)

        def forward(self, images):
            return self.head(self.body(self.stem(images)).mean((2, 3)))

    class Skips(Mine):
        def forward(self, images):
            early = self.stem(images)
            return self.head(self.body(early.clone()).mean((2, 3)) + early.mean())

    class Branches(Mine):
        def forward(self, images):
            if images.sum() > 0:
                images = images * 1.0
            return super().forward(images)

    class Flat(nn.Sequential):
        def __init__(self, num_classes):
            super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))

    class Tells(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.body = Flat(num_classes)

        def forward(self, images):
            return {"logits": self.body(images)}

    class Sure(Tells):
        def forward(self, images):
            return self.body(images).softmax(1)

    def wide(num_classes):
        return Mine(num_classes, 16)

    def thirteen():
        return Mine(13)

    def no_module():
        return 3

    def fails():
        return Mine("a")

    def pairs():
        class Pairs(Mine):
            def forward(self, images):
                return super().forward(images), images
        return Pairs()

    def fixed():
        class Fixed(Mine):
            def forward(self, images):
                return super().forward(images[:1])
        return Fixed()

    ready = Mine()
"""


@pytest.fixture
def use(tmp_path):
    """Name something of a file of networks."""
    file = tmp_path / "net.py"
    file.write_text(textwrap.dedent(CODE))
    return lambda name: f"{file}:{name}"


def build(use, *, classes=10, shape=(1, 8, 8), seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return registry.build(
        use, num_classes=classes, image_shape=shape, generator=generator, **options
    )


def images(count=6, shape=(1, 8, 8)):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["Mine", "wide", "Flat", "Tells"])
def test_a_class_or_a_function_of_a_file_is_a_network(use, name):
    network = build(use(name), classes=7).eval()
    assert network(images()).shape == (6, 7)
    assert network.architecture.startswith(f"{name}-")


def test_its_weights_come_from_the_seed_and_the_global_generator_stays(use):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (build(use("Mine"), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one(images()), same(images()))
    assert not torch.equal(one(images()), other(images()))


def test_images_are_normalised_before_it(use):
    bare = build(use("Mine")).eval()
    normalised = build(use("Mine"), mean=(0.5,), std=(0.25,)).eval()
    assert torch.equal(normalised(images()), bare((images() - 0.5) / 0.25))


def test_posteriors_become_logits_of_the_same_posteriors(use):
    network = build(use("Sure")).eval()
    own = network.adapted.body(images())
    torch.testing.assert_close(network(images()).softmax(1), own)
    assert network(images()).amin() < 0  # their logarithm, and not they themselves


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("thirteen", r"answers \(2, 13\) for 2 images, and the data has 10 classes"),
        ("no_module", "expected a torch.nn.Module, or a function that returns one, got int"),
        ("fails", "net.py:fails: TypeError"),
        ("pairs", r"expected \(n, 10\) logits for n images, got tuple"),
        ("fixed", r"answers \(1, 10\) for 2 images"),
        ("ready", "expected a class of torch.nn.Module or a function that returns one, got Mine"),
        ("Gone", "defines no 'Gone'"),
        ("torch", "expected a class of torch.nn.Module or a function"),
    ],
)
def test_what_is_no_network_for_the_data_is_told_in_one_line(use, name, said):
    with pytest.raises(ScenarioError, match=said) as told:
        build(use(name))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 2), (4, 9, 7)])
def test_images_that_it_does_not_take_are_told_in_one_line(use, shape):
    with pytest.raises(ScenarioError, match=r"does not fit 10 classes of .* images: RuntimeError"):
        build(use("Mine"), shape=shape)


def test_a_parameter_that_it_does_not_take_is_told_with_those_it_takes(use):
    with pytest.raises(ScenarioError, match=r"'depth'; it takes \(num_classes=10, width=8\)"):
        build(use("Mine"), depth=3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:resnet81", "no network of torchvision named 'resnet81'; did you mean"),
        ("torchvision:maskrcnn_resnet50_fpn", "no network of torchvision"),
        ("timm:resnet81", "no network of timm named 'resnet81'; did you mean"),
        ("timn:resnet18", "no network named 'timn:resnet18'"),
        ("nix.py:Mine", "no file nix.py"),
    ],
)
def test_a_network_that_does_not_exist_is_told_with_the_nearest(name, said):
    if name.startswith("timm:"):
        pytest.importorskip("timm", reason="names of timm's networks need timm")
    with pytest.raises((UnknownName, ScenarioError), match=said):
        build(name, shape=(3, 32, 32))


def test_nothing_is_fetched():
    for name, key in (("torchvision:resnet18", "weights"), ("timm:resnet18", "pretrained")):
        with pytest.raises(ScenarioError, match="nothing is fetched"):
            build(name, shape=(3, 32, 32), **{key: True})


def test_without_timm_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ScenarioError, match=r"pip install 'fortress-arena\[vision\]'"):
        build("timm:resnet18", shape=(3, 32, 32))


def test_the_stages_of_a_network_that_is_cut_answer_as_the_whole(use):
    whole = build(use("Mine")).eval()
    network = with_heads(with_places(whole, ["stem", "body.0"]), generator=seeded()).eval()
    assert network.exit_names == ("stem", "body.0", "whole network")
    assert network.backbone.widths[:2] == (8, 8)
    assert isinstance(network.backbone.classifier, nn.Linear)
    torch.testing.assert_close(network(images()), whole(images()))
    # a layer that works in place spoils nothing that a head has read
    stem = whole.adapted.body.stem(whole.stages[0][0](images())).mean((2, 3))
    torch.testing.assert_close(network.features(images())[0], stem)
    shares = profile(network).shares
    assert shares[0] < 0.5 < shares[-1] == 1


def test_what_has_left_a_cut_network_is_computed_no_further(use):
    network = with_heads(with_places(build(use("Mine")), ["stem"]), generator=seeded()).eval()
    seen = []
    hook = network.backbone.stages[1].register_forward_hook(lambda m, i, o: seen.append(len(o)))
    first = network.forward_all(images())[0].softmax(1).amax(1)
    rule = Thresholds((float(first.detach().sort().values[2:4].mean()),))
    seen.clear()
    answer = run_compacted(network, images(), rule, generator=seeded())
    hook.remove()
    assert 0 < int((answer.exits == 0).sum()) < 6
    assert seen == [max(FEWEST, int((answer.exits == 1).sum()))]
    masked = run_masked(network, images(), rule, generator=seeded())
    assert torch.equal(answer.exits, masked.exits)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Skips", "behind 'stem' the network uses 'stem_1' again"), ("Branches", "cannot be traced")],
)
def test_a_network_that_cannot_be_cut_runs_as_a_whole_and_saves_nothing(use, name, reason):
    whole = build(use(name)).eval()
    backbone = with_places(whole, ["stem", "body"])
    assert reason in backbone.undivided
    network = with_heads(backbone, generator=seeded()).eval()
    torch.testing.assert_close(network(images()), whole(images()))
    stem = whole.adapted.body.stem(whole.stages[0][0](images()))
    features = network.features(images())
    torch.testing.assert_close(features[0], stem.mean((2, 3)))
    assert features[1].shape == (6, 16)
    assert backbone_macs(backbone)[0] == backbone_macs(whole)[-1] > 0
    rule = Thresholds((0.0, 0.0))
    answer = run_compacted(network, images(), rule, generator=seeded())
    torch.testing.assert_close(answer.logits, network.forward_all(images())[0])


@pytest.mark.parametrize("name", ["Mine", "Branches"])
def test_giving_places_leaves_running_statistics_and_mode_as_they_are(use, name):
    network = build(use(name))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with_places(network, ["stem", "body"])
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["stm"], "no layer 'stm'; did you mean 'stem'"),
        (["body.9"], "no layer 'body.9'; did you mean 'body"),
        (["conv1"], "no layer 'conv1'"),
        (["body", "stem"], r"the order in which the network runs them: \['stem', 'body'\]"),
        (["stem", "stem"], "the order in which"),
    ],
)
@pytest.mark.parametrize("name", ["Mine", "Branches"])
def test_a_layer_that_is_not_there_is_told_with_the_nearest(use, name, names, said):
    if name == "Branches" and "order" in said:
        pytest.skip("the order of a network that cannot be traced is not known")
    with pytest.raises(ScenarioError, match=said):
        with_places(build(use(name)), names)


def test_a_layer_whose_output_no_head_can_read_is_refused():
    swin = build("torchvision:swin_t", shape=(3, 32, 32))
    with pytest.raises(ScenarioError, match="channels last"):
        with_places(swin, ["features.1"])


@pytest.mark.parametrize(
    ("name", "layers", "early"),
    [
        ("torchvision:resnet18", ["layer1", "layer2", "layer3", "layer4"], (0.31, 0.34)),
        ("torchvision:mobilenet_v3_small", ["features.3"], (0.1, 0.3)),
        ("torchvision:vit_b_32", ["encoder.layers.encoder_layer_3"], (0.3, 0.4)),
        ("timm:resnet18", ["layer1", "layer3"], (0.31, 0.34)),
        ("timm:vit_tiny_patch16_224", ["blocks.3"], (0.3, 0.4)),
    ],
)
def test_networks_of_libraries_are_cut(name, layers, early):
    options = {"image_size": 32} if "vit_b" in name else {}
    if name.startswith("timm:"):
        pytest.importorskip("timm", reason="its networks are timm's")
        options = {"img_size": 32} if "vit" in name else {}
    backbone = with_places(build(name, shape=(3, 32, 32), **options), layers)
    assert backbone.undivided == ""
    network = with_heads(backbone, generator=seeded())
    assert early[0] < profile(network).shares[0] < early[1]


def test_given_weights_are_taken_whole(use, tmp_path):
    trained = build(use("Mine"), seed=3)
    state = trained.adapted.body.state_dict()
    torch.save(
        {"state_dict": {f"module.{name}": t for name, t in state.items()}}, tmp_path / "a.pt"
    )
    save_file(state, tmp_path / "a.safetensors")
    for file in ("a.pt", "a.safetensors"):
        network = build(use("Mine"))
        take_weights(network, tmp_path / file)
        assert torch.equal(network.eval()(images()), trained.eval()(images()))


def test_weights_that_are_not_those_of_the_network_are_refused_in_one_line(use, tmp_path):
    file = tmp_path / "a.pt"
    state = build(use("Mine")).adapted.body.state_dict()
    broken = state | {"head.bias": torch.full((10,), torch.nan)}
    strange = state | {"more": torch.zeros(1)}
    less = {name: tensor for name, tensor in state.items() if name != "head.bias"}
    for wrong, said in (
        (build(use("wide")).adapted.body.state_dict(), r"its 'stem.0.weight' is \(16, 1"),
        (
            build(use("thirteen"), classes=13).adapted.body.state_dict(),
            r"its 'head.weight' is \(13,",
        ),
        (broken, "holds NaN or infinity"),
        (strange, "the network has no 'more'"),
        (less, "it has no 'head.bias'"),
        (build(use("Mine")).adapted.body, "expected a state dict"),
        (b"text", "is no file of weights"),
    ):
        torch.save(wrong, file)
        with pytest.raises(DataMissing, match=said) as told:
            take_weights(build(use("Mine")), file)
        assert "\n" not in str(told.value)
    with pytest.raises(DataMissing, match="no file"):
        take_weights(build(use("Mine")), tmp_path / "gone.pt")


def test_our_networks_take_given_weights_too(tmp_path):
    trained = build("mlp-small", seed=3, mean=(0.3,))
    torch.save(trained.state_dict(), tmp_path / "a.pt")
    network = build("mlp-small")
    take_weights(network, tmp_path / "a.pt")
    assert torch.equal(network(images()), trained(images()))
    with pytest.raises(ArenaError, match="is not for 'conv-small'"):
        take_weights(build("conv-small"), tmp_path / "a.pt")


def test_costs_of_two_networks_of_equal_layers_are_told_apart(use):
    cut = MultiExit(with_places(build(use("Mine")), ["stem"]))
    whole = MultiExit(with_places(build(use("Skips")), ["stem"]))
    assert profile(cut).ops != profile(whole).ops


def seeded():
    return torch.Generator().manual_seed(2)


@pytest.mark.slow
def test_what_only_a_cut_needs_is_not_loaded_before():
    code = "import sys, envs.training.victims; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


RESNET18 = """
from torch import nn
from torchvision.models import resnet18


def small():
    network = resnet18(num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network
"""


def test_a_users_resnet18_with_four_exits_costs_what_ours_does_and_computes_no_more(tmp_path):
    (tmp_path / "net.py").write_text(RESNET18)
    theirs = build(f"{tmp_path / 'net.py'}:small", shape=(3, 32, 32))
    theirs = with_heads(
        with_places(theirs, ["layer1", "layer2", "layer3"]), generator=seeded()
    ).eval()
    ours = with_heads(
        build("resnet18-8x", shape=(3, 32, 32)), generator=seeded(), exits=range(3)
    ).eval()
    assert profile(theirs).shares == pytest.approx(profile(ours).shares, abs=1e-3)
    # one image leaves at each exit, and each stage sees those that are left
    for network in (theirs, ours):
        seen = []
        for stage in network.backbone.stages:
            stage.register_forward_hook(lambda m, i, o, seen=seen: seen.append(len(o)))
        leaves_in_turn = ByHistogram([0.25] * 4)
        answer = run_compacted(network, images(8, (3, 32, 32)), leaves_in_turn, generator=seeded())
        left = [int((answer.exits >= place).sum()) for place in range(4)]
        assert left[0] == 8 > left[1] > left[3] > 0
        assert seen == [max(FEWEST, count) for count in left]
