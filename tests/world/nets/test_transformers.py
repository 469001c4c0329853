"""Swin, ViT, DeiT and CaiT: published counts, exits, and the answers of the library's own."""

import pytest
import torch

from envs.exits.rules import Thresholds
from envs.nets import registry
from envs.nets.exit_cost import backbone_macs
from envs.nets.multi_exit import with_heads
from envs.nets.staged import Plan
from envs.victim.execution import run_compacted, run_masked

timm = pytest.importorskip("timm", reason="the transformers need timm, extra 'vision'")

# name, side, parameters at K = 200: constant and per class, blocks, widths after the stages
PUBLISHED = [
    ("swin-large", 384, 195_198_516, 1_537, 24, (192, 384, 768, 1536)),
    ("vit-large", 384, 303_690_752, 1_025, 24, (1024,) * 4),
    ("cait-s36", 384, 67_981_632, 385, 36, (384,) * 4),
    ("deit-base-distilled", 384, 86_092_032, 1_538, 12, (768,) * 4),
]
STAND_INS = [
    ("swin-tiny", 224, 27_673_154),
    ("deit-tiny", 224, 5_563_016),
    ("deit-small", 224, 21_742_664),
    ("cait-xxs24", 224, 11_801_864),
]
# name, side, settings, MACs at K = 200, shares at the exits in percent
COSTS = [
    ("swin-large", 384, {}, 103.92e9, (8.9, 17.9, 91.4, 100)),
    ("swin-large", 384, {"merged": True}, 103.92e9, (9.6, 18.6, 92.0, 100)),
    ("vit-large", 384, {}, 191.1e9, (25.2, 50.1, 75.1, 100)),
    ("cait-s36", 384, {}, 47.9e9, (25.1, 49.8, 74.6, 99.3)),
    ("deit-base-distilled", 384, {}, 55.6e9, (25.5, 50.3, 75.2, 100)),
    ("swin-tiny", 224, {}, 4.49e9, (17.1, 34.5, 83.1, 100)),
    ("deit-tiny", 224, {}, 1.25e9, ()),
    ("deit-small", 224, {}, 4.60e9, ()),
    ("cait-xxs24", 224, {}, 2.52e9, ()),
]
SLOW = pytest.mark.slow
SMALL = [("swin-tiny", 64), ("deit-tiny", 32), ("cait-xxs24", 32)]


def count_parameters(network):
    return sum(weights.numel() for weights in network.parameters())


def _outline(name, side, num_classes=200, **params):
    shape = (3, side, side)
    return registry.outline(name, num_classes=num_classes, image_shape=shape, **params)


def _build(name, side, *, num_classes=5, seed=0, channels=3, **params):
    generator = torch.Generator().manual_seed(seed)
    shape = (channels, side, side)
    return registry.build(
        name, num_classes=num_classes, image_shape=shape, generator=generator, **params
    )


def _images(side, count=3, channels=3):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "side", "constant", "per_class", "depth", "widths"), PUBLISHED)
def test_parameters_of_the_large_ones_are_the_published_ones(
    name, side, constant, per_class, depth, widths
):
    network = _outline(name, side)
    assert count_parameters(network) == constant + 200 * per_class
    assert count_parameters(network.classifier) == 200 * per_class
    assert (network.depth, network.widths) == (depth, widths)


@pytest.mark.parametrize(("name", "side", "expected"), STAND_INS)
def test_parameters_of_the_stand_ins_are_the_published_ones(name, side, expected):
    assert count_parameters(_outline(name, side)) == expected


@pytest.mark.parametrize(
    ("name", "side", "params", "macs", "shares"),
    [
        case if case[0] in ("swin-tiny", "deit-tiny") else pytest.param(*case, marks=SLOW)
        for case in COSTS
    ],
)
def test_macs_and_exit_positions_are_the_published_ones(name, side, params, macs, shares):
    counted = backbone_macs(_outline(name, side, **params))
    assert counted[-1] == pytest.approx(macs, rel=0.005)
    for stage, share in enumerate(shares):
        assert 100 * counted[stage] / counted[-1] == pytest.approx(share, abs=0.2)


def test_heads_on_a_merged_swin_are_the_released_ones():
    network = with_heads(_outline("swin-large", 384, merged=True))
    assert network.backbone.widths == (384, 768, 1536, 1536)
    assert [count_parameters(head) for head in network.heads] == [
        1_170_968, 1_939_736, 3_477_272, 3_477_272,
    ]  # fmt: skip


def test_swin_may_have_exits_inside_its_third_stage():
    assert len(_outline("swin-large", 384, exit_every=6).stages) == 6
    merged = _outline("swin-tiny", 64, exit_every=2, merged=True)
    assert merged.widths == (192, 384, 384, 384, 768, 768)
    assert len(_outline("vit-large", 384, exit_every=2).stages) == 12


@pytest.mark.parametrize(("name", "side"), SMALL)
def test_stages_pooled_features_and_logits_have_the_promised_shapes(name, side):
    network = _outline(name, side, num_classes=7)
    features = torch.empty(2, 3, side, side, device="meta")
    for stage, width in zip(network.stages, network.widths, strict=True):
        features = stage(features)
        assert features.ndim == 3
        assert network.pool(features).shape == (2, width)
    assert network.classify(features).shape == (2, 7)
    assert network.classifier(network.embed(features)).shape == (2, 7)


def _own(model, side, classes):
    """Return the library's network, its weights and buffers far from their start."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        whole = timm.create_model(model, num_classes=classes, img_size=side).eval()
        with torch.no_grad():
            for weights in whole.parameters():
                weights.add_(0.05 * torch.randn_like(weights))
    return whole


@pytest.mark.parametrize(
    ("name", "model", "side"),
    [
        pytest.param("swin-tiny", "swin_tiny_patch4_window7_224", 64, marks=SLOW),
        ("deit-tiny", "deit_tiny_patch16_224", 32),
        pytest.param("cait-xxs24", "cait_xxs24_224", 32, marks=SLOW),
    ],
)
def test_a_network_with_the_weights_of_a_file_answers_as_the_librarys_own(
    name, model, side, tmp_path
):
    from safetensors.torch import save_file

    whole = _own(model, side, 5)
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    network = _build(name, side, weights=str(tmp_path / "weights.safetensors")).eval()
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in ((0.485, 0.456, 0.406),
                                                          (0.229, 0.224, 0.225)))  # fmt: skip
    images = _images(side)
    with torch.no_grad():
        torch.testing.assert_close(network(images), whole((images - mean) / std))


def test_a_distilled_network_averages_its_two_heads_as_the_librarys_own():
    from envs.nets.init import materialise
    from envs.nets.transformers import vit
    from envs.nets.weights import same_tensors

    model = "deit_tiny_distilled_patch16_224"
    plan = Plan("deit", 5, (3, 32, 32), (0.0,) * 3, (1.0,) * 3)
    with torch.device("meta"):
        network = vit(plan, model=model)
    materialise(network, generator=torch.Generator().manual_seed(0))
    whole = _own(model, 32, 5)
    assert not same_tensors(network, whole)
    ours, theirs = list(network.eval().parameters()), list(whole.parameters())
    assert sum(w.numel() for w in ours) == sum(w.numel() for w in theirs)
    state = whole.state_dict()
    names = {
        "stages.0.1.0.lead.0": "cls_token", "stages.0.1.0.lead.1": "dist_token",
        "stages.0.1.0.positions": "pos_embed", "stages.0.1.0.patches.proj.weight":
        "patch_embed.proj.weight", "stages.0.1.0.patches.proj.bias": "patch_embed.proj.bias",
        "neck.norm.weight": "norm.weight", "neck.norm.bias": "norm.bias",
        "classifier.first.weight": "head.weight", "classifier.first.bias": "head.bias",
        "classifier.second.weight": "head_dist.weight", "classifier.second.bias": "head_dist.bias",
    }  # fmt: skip
    renamed = {ours: state[theirs] for ours, theirs in names.items()}
    for block in range(12):
        stage, place = divmod(block, 3)
        inside = f"stages.0.1.{place + 1}" if stage == 0 else f"stages.{stage}.{place}"
        for key, tensor in state.items():
            if key.startswith(f"blocks.{block}."):
                renamed[key.replace(f"blocks.{block}", inside, 1)] = tensor
    missing = network.load_state_dict(renamed, strict=False)
    assert missing.unexpected_keys == []
    assert {key.rsplit(".", 1)[1] for key in missing.missing_keys} == {"mean", "std"}
    with torch.no_grad():
        torch.testing.assert_close(network(_images(32)), whole(_images(32)))


@pytest.mark.parametrize(
    ("name", "side"), [("swin-tiny", 64), pytest.param("cait-xxs24", 32, marks=SLOW)]
)
def test_one_seed_gives_one_network_and_the_global_state_stays(name, side):
    state = torch.get_rng_state()
    first, again, other = (_build(name, side, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    images = _images(side)
    with torch.no_grad():
        answers = [network.eval()(images) for network in (first, again, other)]
    assert answers[0].isfinite().all()
    assert torch.equal(answers[0], answers[1])
    assert not torch.allclose(answers[0], answers[2])


def test_layers_start_as_transformers_do():
    network = _build("cait-xxs24", 32)
    weights = dict(network.named_parameters())
    gamma = next(w for key, w in weights.items() if key.endswith("gamma_1"))
    assert torch.allclose(gamma, torch.full_like(gamma, 1e-5))
    qkv = next(w for key, w in weights.items() if key.endswith("qkv.weight"))
    assert qkv.std().item() == pytest.approx(0.02, rel=0.05)
    assert not network.classifier.bias.any()


@pytest.mark.parametrize(
    ("name", "side"),
    [("swin-tiny", 64), ("deit-tiny", 32), pytest.param("cait-xxs24", 32, marks=SLOW)],
)
def test_a_multi_exit_transformer_stops_and_answers_as_if_all_ran(name, side):
    backbone = _build(name, side)
    network = with_heads(backbone, generator=torch.Generator().manual_seed(2)).eval()
    images = _images(side, 8)
    with torch.no_grad():
        confidence = network.forward_all(images).softmax(2).amax(2)
        # half way between two images, so that rounding decides nothing
        middle = confidence.sort(1).values[:-1, 3:5].mean(1)
        rule = Thresholds(middle.tolist())
        generator = torch.Generator()
        stopped = run_compacted(network, images, rule, generator=generator)
        whole = run_masked(network, images, rule, generator=generator)
    assert torch.equal(stopped.exits, whole.exits)
    assert len(stopped.exits.unique()) > 2
    torch.testing.assert_close(stopped.logits, whole.logits)


def test_gradient_redirection_can_steer_a_swin():
    from envs.defences.gradient_redirection import log_slopes

    slopes = log_slopes(_build("swin-tiny", 64).eval(), _images(64, 2), "ones")
    assert slopes.shape == (2, 5)
    assert slopes.isfinite().all()
    assert slopes.abs().max() > 0


def test_images_of_an_odd_size_are_told_how_to_fit():
    from envs.errors import ScenarioError

    with pytest.raises(ScenarioError, match="multiples of 16 pixels, got 40x40; enlarge"):
        _outline("deit-tiny", 40)
    enlarged = _build("deit-tiny", 40, enlarge=64).eval()
    assert enlarged.image_shape == (3, 40, 40)
    with torch.no_grad():
        assert enlarged(_images(40)).shape == (3, 5)
    with pytest.raises(ScenarioError, match="enlarge of 0 or more"):
        _outline("deit-tiny", 32, enlarge=-1)
    with pytest.raises(ScenarioError, match="exit_every"):
        _outline("deit-tiny", 32, exit_every=-1)


def test_without_timm_the_extra_is_named(monkeypatch):
    import sys

    from envs.errors import ScenarioError

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ScenarioError, match=r"pip install 'fortress-arena\[vision\]'"):
        _outline("deit-tiny", 32)
