"""Claims about early exit that is really executed."""

import pytest
import torch
from torch import nn

from envs.exits.random_rules import ByFlag, ByHistogram, CoinThresholds, PassingAtRandom
from envs.exits.rules import FinalOnly, Thresholds, log_odds
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.registry import build
from envs.seeding import Streams
from envs.victim.execution import run_compacted, run_each, run_masked


def stream(name: str = "rule", seed: int = 0) -> torch.Generator:
    return Streams(seed).torch(name)


@pytest.fixture(scope="module")
def network() -> MultiExit:
    """V8's structure with random weights, and batch statistics of noise images."""
    generator = stream("network")
    backbone = build("resnet10", num_classes=10, image_shape=(1, 8, 8), generator=generator)
    net = with_heads(backbone, generator=generator)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    net.train()
    with torch.no_grad():
        net(noise(256))
    return net.eval()


def noise(count: int) -> torch.Tensor:
    return torch.rand((count, 1, 8, 8), generator=stream("images"))


def digits(count: int) -> torch.Tensor:
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().images[:count] / 16, dtype=torch.float32)[:, None]


def middle_gap(scores: torch.Tensor) -> float:
    """Middle of the widest gap near the median: rounding of another batch size moves nobody."""
    near = scores.sort().values[len(scores) * 2 // 5 : len(scores) * 3 // 5]
    widest = int(near.diff().argmax())
    return float(near[widest : widest + 2].mean())


def spread(network: MultiExit, images: torch.Tensor) -> Thresholds:
    """Thresholds near the medians, so that every exit gets some of the images."""
    with torch.no_grad():
        scores = [log_odds(logits) for logits in network.forward_all(images)[:-1]]
    return Thresholds.from_log_odds([middle_gap(score) for score in scores])


RULES = [
    pytest.param(lambda t: t, id="thresholds"),
    pytest.param(lambda t: FinalOnly(), id="final"),
    pytest.param(lambda t: CoinThresholds(t.values, 0.5, key=1), id="coin-hash"),
    pytest.param(lambda t: CoinThresholds(t.values, 0.5, seeding="fresh"), id="coin-fresh"),
    pytest.param(lambda t: PassingAtRandom(t.values, seeding="fresh"), id="passing-at-random"),
    pytest.param(lambda t: ByHistogram([1, 2, 0, 3, 4]), id="histogram"),
    pytest.param(lambda t: ByHistogram([0, 1, 1, 1, 0]), id="histogram-early"),
    pytest.param(lambda t: ByFlag(), id="flag"),
]
IMAGES = pytest.mark.parametrize("images", [noise(256), digits(256)], ids=["random", "real"])


def assert_same(one, other):
    assert torch.equal(one.exits, other.exits)
    torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", RULES)
@IMAGES
def test_compacted_and_masked_execution_agree(network, make, images):
    rule = make(spread(network, images))
    for ood in (False, True):
        masked = run_masked(network, images, rule, generator=stream(), ood=ood)
        for chunk in (None, 60):
            compacted = run_compacted(
                network, images, rule, generator=stream(), ood=ood, chunk=chunk
            )
            assert_same(compacted, masked)


@pytest.mark.parametrize("make", RULES)
@IMAGES
def test_single_execution_agrees_with_a_batch(network, make, images):
    rule = make(spread(network, images))
    few = images[:32]
    assert_same(
        run_each(network, few, rule, generator=stream(), ood=True),
        run_masked(network, few, rule, generator=stream(), ood=True),
    )


def test_the_answer_is_the_one_of_the_exit_that_was_taken(network):
    images = noise(256)
    answer = run_compacted(network, images, spread(network, images), generator=stream())
    assert answer.exits.unique().tolist() == [0, 1, 2, 3, 4]
    with torch.no_grad():
        every = network.forward_all(images)
    expected = every[answer.exits, torch.arange(256)]
    torch.testing.assert_close(answer.logits, expected, rtol=0, atol=1e-5)


class Counter:
    """Counts the images that each part of a network really works on."""

    def __init__(self, network: MultiExit) -> None:
        parts = {"stage": network.backbone.stages, "head": network.heads}
        named = {f"{kind} {i}": m for kind, group in parts.items() for i, m in enumerate(group)}
        named["classifier"] = network.backbone.classifier
        self.seen = dict.fromkeys(named, 0)
        self._hooks = [m.register_forward_hook(self._note(name)) for name, m in named.items()]

    def _note(self, name):
        def hook(module, inputs, output):
            self.seen[name] += len(inputs[0])

        return hook

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()


def test_every_stage_sees_only_the_images_that_are_still_inside(network):
    images = digits(256)
    rule = spread(network, images)
    with Counter(network) as counter:
        exits = run_compacted(network, images, rule, generator=stream()).exits
    inside = [int((exits >= index).sum()) for index in range(5)]
    assert inside[0] == 256 > inside[1] > inside[2] > inside[3] > inside[4] > 0
    expected = {f"stage {i}": inside[i] for i in range(4)} | {
        f"head {i}": inside[i] for i in range(4)
    }
    assert counter.seen == expected | {"classifier": inside[4]}


def test_masked_execution_runs_everything(network):
    images = digits(64)
    rule = spread(network, images)
    with Counter(network) as counter:
        run_masked(network, images, rule, generator=stream())
    assert set(counter.seen.values()) == {64}


def test_nothing_runs_after_everybody_left(network):
    with Counter(network) as counter:
        answer = run_compacted(network, noise(32), Thresholds([0.0] * 4), generator=stream())
    assert (answer.exits == 0).all()
    assert counter.seen["stage 0"] == counter.seen["head 0"] == 32
    assert sum(counter.seen.values()) == 64


def test_heads_at_which_nobody_can_leave_do_not_run(network):
    with Counter(network) as counter:
        run_compacted(network, noise(32), Thresholds([1.1, 1.1, 0.0, 1.1]), generator=stream())
    ran = {name for name, count in counter.seen.items() if count}
    assert ran == {"stage 0", "stage 1", "stage 2", "head 2"}


def test_a_rule_that_compares_all_exits_runs_them_all(network):
    with Counter(network) as counter:
        run_compacted(network, noise(32), PassingAtRandom([0.1] * 4), generator=stream())
    assert set(counter.seen.values()) == {32}


def test_exits_of_a_deterministic_rule_do_not_depend_on_the_batch_split(network):
    images = noise(200)
    rule = spread(network, images)
    whole = run_compacted(network, images, rule, generator=stream())
    parts = [run_compacted(network, p, rule, generator=stream()) for p in torch.split(images, 7)]
    assert torch.equal(torch.cat([part.exits for part in parts]), whole.exits)
    logits = torch.cat([part.logits for part in parts])
    torch.testing.assert_close(logits, whole.logits, rtol=0, atol=1e-5)


def test_a_channels_last_network_keeps_its_layout_when_images_leave(network):
    import copy

    images = noise(128)
    rule = spread(network, images)
    plain = run_compacted(network, images, rule, generator=stream())
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    layouts = []

    def note(module, inputs):
        layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    for stage in list(other.backbone.stages)[1:]:
        stage.register_forward_pre_hook(note)
    wide = images.contiguous(memory_format=torch.channels_last)
    answer = run_compacted(other, wide, rule, generator=stream())
    assert layouts == [True, True, True]
    assert torch.equal(answer.exits, plain.exits)
    torch.testing.assert_close(answer.logits, plain.logits, rtol=0, atol=1e-5)


def test_serving_runs_in_evaluation_mode_and_restores_the_mode(network):
    images = noise(16)
    expected = run_compacted(network, images, FinalOnly(), generator=stream()).logits
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    network.train()
    answer = run_compacted(network, images, FinalOnly(), generator=stream()).logits
    assert network.training
    network.eval()
    network.backbone.train()
    other = run_compacted(network, images, FinalOnly(), generator=stream()).logits
    assert network.backbone.training
    network.eval()
    assert torch.equal(answer, expected)
    assert torch.equal(other, expected)
    assert all(torch.equal(v, statistics[name]) for name, v in network.named_buffers())


@pytest.mark.usefixtures("a_millisecond_a_segment")
def test_single_execution_measures_each_image_by_the_segments_it_ran(network):
    images = noise(6)
    for rule, segments in ((Thresholds([0.0] * 4), 1), (FinalOnly(), 5)):
        seconds = run_each(network, images, rule, generator=stream()).seconds
        expected = torch.full((6,), segments * 1e-3, dtype=torch.float64)
        torch.testing.assert_close(seconds, expected)


def test_a_rule_for_another_number_of_exits_is_refused(network):
    with pytest.raises(ValueError, match="expected 4 thresholds"):
        run_compacted(network, noise(2), Thresholds([0.5]), generator=stream())


def test_a_chunk_of_no_image_is_refused(network):
    with pytest.raises(ValueError, match="expected a chunk of at least 1"):
        run_compacted(network, noise(2), FinalOnly(), generator=stream(), chunk=0)


@pytest.mark.parametrize("name", ["resnet10", "mlp-small", "conv-small", "mobilenetv2-small"])
def test_the_last_digits_of_an_image_do_not_tell_where_the_one_beside_it_left(name):
    generator = stream("network")
    backbone = build(name, num_classes=10, image_shape=(1, 8, 8), generator=generator)
    network = with_heads(backbone, generator=generator).eval()
    images = torch.cat([noise(60), digits(60)])
    rule = spread(network, images)
    exits = run_compacted(network, images, rule, generator=stream()).exits
    late, *others = (images[exits == e] for e in range(network.num_exits - 1, -1, -1))
    assert all(len(one) for one in others)
    for many in (1, 2, 3):  # how many it asked at once the attacker knows itself
        told = {
            run_compacted(network, torch.cat([late[:1], beside[:many]]), rule, generator=stream())
            .logits[0].view(torch.int32).numpy().tobytes()
            for group in (*others, late[1:])
            for beside in (group, group.flip(0))
        }  # fmt: skip
        assert len(told) == 1
