"""Claims about the serving copy, chunks and ties at a threshold."""

import itertools

import pytest
import torch
from torch import nn

from envs.exits.random_rules import PassingAtRandom
from envs.exits.rules import FinalOnly, Thresholds, log_odds
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.registry import build
from envs.victim import chunk_size
from envs.victim.chunk_size import chunks_for
from envs.victim.compaction import Compaction
from envs.victim.execution import run_compacted
from envs.victim.folded import ServingCopy, lay_out, serving_copy
from envs.victim.ties import Arbiter
from envs.victim.victim import Victim


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, shape=(1, 8, 8)) -> torch.Tensor:
    return torch.rand((count, *shape), generator=stream(7))


def make(name: str = "resnet10", shape=(1, 8, 8), **options) -> MultiExit:
    """Random weights with batch statistics that are not the identity."""
    backbone = build(name, num_classes=10, image_shape=shape, generator=stream(), **options)
    network = with_heads(backbone, generator=stream(1))
    network.train()
    with torch.no_grad():
        for _ in range(8):
            network(noise(64, shape))
    return network.eval()


@pytest.fixture(scope="module")
def network() -> MultiExit:
    return make()


@pytest.mark.parametrize(
    "name", ["resnet10", "mobilenetv2-small", "densenet-small", "conv-small", "mlp-small"]
)
def test_the_serving_copy_answers_as_the_original_at_every_exit(name):
    network = make(name)
    images = noise(50)
    copied = serving_copy(network)
    with torch.no_grad():
        expected = network.forward_all(images)
        got = copied.forward_all(lay_out(images, copied))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_the_serving_copy_has_no_normalisation_left_to_run_and_leaves_the_original_alone(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copied = serving_copy(network)
    kinds = [type(layer) for layer in copied.modules()]
    assert nn.BatchNorm2d not in kinds
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_layers_that_run_in_another_order_than_listed_are_not_folded(network):
    class Crossed(nn.Module):
        """Lists a convolution before the normalisation that really runs first."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
            self.norm.running_mean.uniform_(-1, 1, generator=stream())

        def forward(self, features):
            return self.conv(self.norm(features))

    backbone = build("resnet10", num_classes=10, image_shape=(1, 8, 8), generator=stream())
    backbone.stages[1].append(Crossed(backbone.widths[1]))
    crossed = with_heads(backbone, generator=stream()).eval()
    assert serving_copy(crossed) is crossed


def test_the_copy_is_made_anew_when_the_weights_have_changed():
    network = make()
    serving = ServingCopy(network)
    first = serving.current()
    assert serving.current() is first
    with torch.no_grad():
        network.backbone.classifier.bias.add_(1)
    second = serving.current()
    assert second is not first
    torch.testing.assert_close(second.backbone.classifier.bias, network.backbone.classifier.bias)


def test_whoever_listens_at_a_stage_hears_every_image_of_the_victim():
    victim = Victim(make())
    victim.posteriors(noise(4))
    heard = []
    stage = victim.network.backbone.stages[0]
    hook = stage.register_forward_pre_hook(lambda module, inputs: heard.append(len(inputs[0])))
    victim.posteriors(noise(5))
    hook.remove()
    victim.posteriors(noise(6))
    assert heard == [5]


def test_chunks_grow_as_maps_shrink_and_are_measured_once_per_structure(monkeypatch):
    network = make("resnet34-8x", (3, 32, 32), width=0.0625, exit_every=2)
    chunks = chunks_for(network)
    monkeypatch.setattr(chunk_size, "_chunks", None)
    assert list(chunks) == sorted(chunks)
    # 4 channels of 32x32 float32 are 16 KiB an image
    assert chunks[0] == 8 * 2**20 // (4 * 32 * 32 * 4)
    assert chunks_for(network) == chunks


class Sizes:
    """Notes how many images each segment is given at a time."""

    def __init__(self, network: MultiExit) -> None:
        self.seen: dict[int, list[int]] = {i: [] for i in range(len(network.backbone.stages))}
        for index, stage in enumerate(network.backbone.stages):
            stage.register_forward_pre_hook(
                lambda module, inputs, index=index: self.seen[index].append(len(inputs[0]))
            )


def halving(network: MultiExit, images: torch.Tensor) -> Thresholds:
    """Half of whoever is inside leaves at every exit."""
    with torch.no_grad():
        scores = [log_odds(logits) for logits in network.forward_all(images)[:-1]]
    inside = torch.ones(len(images), dtype=torch.bool)
    values = []
    for score in scores:
        ranked = score[inside].sort().values
        first = max(1, len(ranked) // 2 - 2)
        # in the widest gap near the middle, so that this test is not about ties
        place = first + int(ranked[first - 1 : first + 4].diff().argmax())
        values.append(float(ranked[place - 1 : place + 1].mean()))
        inside &= score <= values[-1]
    return Thresholds.from_log_odds(values)


def test_survivors_of_several_chunks_are_put_together():
    network = make()
    images = noise(64)
    rule = halving(network, images)
    sizes = Sizes(network)
    run_compacted(network, images, rule, generator=stream(), chunk=16)
    assert sizes.seen[0] == [16] * 4
    assert 28 <= sum(sizes.seen[1]) <= 36
    assert len(sizes.seen[1]) == 2
    assert len(sizes.seen[2]) == 1


def test_chunks_of_each_segment_change_no_exit(network):
    images = noise(200)
    rule = halving(network, images)
    whole = run_compacted(network, images, rule, generator=stream())
    assert whole.exits.unique().tolist() == [0, 1, 2, 3, 4]
    # chunks of 2 make blocks of 32, too
    for chunk in ((7, 11, 30, 50, 90), (2, 2, 2, 2, 2), 33):
        other = run_compacted(network, images, rule, generator=stream(), chunk=chunk)
        assert torch.equal(other.exits, whole.exits)
        torch.testing.assert_close(other.logits, whole.logits, rtol=0, atol=1e-5)


def test_a_rule_decides_once_at_each_exit_whatever_the_chunks(network):
    class Asked(Thresholds):
        """Notes at which exits it was asked, and for how many images."""

        def judge(self, exit_index, logits, state, *, tolerance):
            asked.append((exit_index, len(logits)))
            return super().judge(exit_index, logits, state, tolerance=tolerance)

    images, asked = noise(64), []
    rule = Asked.from_log_odds(halving(network, images).log_odds)
    answer = run_compacted(network, images, rule, generator=stream(), chunk=8)
    inside = [int((answer.exits >= index).sum()) for index in range(4)]
    assert asked == list(enumerate(inside))


def test_chunks_for_another_number_of_segments_are_refused(network):
    with pytest.raises(ValueError, match="one for each of 5 segments"):
        run_compacted(network, noise(2), FinalOnly(), generator=stream(), chunk=(1, 2))


def alone(network: MultiExit, image: torch.Tensor, exit_index: int) -> float:
    """Score an image at an exit, by the original network and by itself."""
    with torch.no_grad():
        return float(log_odds(network.forward_all(image[None])[exit_index]))


def at_the_threshold(network: MultiExit, images: torch.Tensor, image: int, leaves: bool):
    """Thresholds of which the second lies at an image's own score, within the last digit."""
    score = alone(network, images[image], 1)
    side = -1.0 if leaves else 1.0
    value = float(torch.tensor(score, dtype=torch.float64)) + side * 1e-12
    return Thresholds.from_log_odds([float("inf"), value, float("inf"), float("inf")])


class EveryWay:
    """Serves one network in all the ways there are."""

    def __init__(self, network: MultiExit) -> None:
        self.network = network
        self.compacted = Victim(network)
        self.masked = Victim(network, execution="masked")
        self.chunked = Victim(network, chunk=5)

    def exits(self, images: torch.Tensor, rule) -> list[torch.Tensor]:
        victims = [v.with_rule(rule) for v in (self.compacted, self.masked, self.chunked)]
        answers = [victim.answer(images, generator=stream()).exits for victim in victims]
        split = [victims[0].answer(part, generator=stream()).exits for part in images.split(7)]
        return [
            *answers,
            victims[0].answer_each(images, generator=stream())[0].exits,
            torch.cat(split),
            run_compacted(self.network, images, rule, generator=stream()).exits,
        ]


@pytest.mark.slow
def test_an_image_at_the_threshold_leaves_at_one_exit_whatever_the_batch(network):
    images, ways, disagreed = noise(16), EveryWay(network), 0
    copied = serving_copy(network)
    with torch.no_grad():
        logits = copied.forward_all(lay_out(images, copied))[1]
    for image in range(16):
        for leaves in (True, False):
            rule = at_the_threshold(network, images, image, leaves)
            for exits in ways.exits(images, rule):
                assert exits[image] == (1 if leaves else 4)
            disagreed += bool(rule.leaves(1, logits, torch.empty(0))[image]) != leaves
    # without an arbiter some of these 32 would have left elsewhere
    assert disagreed > 3


def test_a_draw_at_the_threshold_is_decided_alike_by_every_execution(network):
    images, ways = noise(16), EveryWay(network)
    for image in range(4):
        values = at_the_threshold(network, images, image, leaves=True).log_odds[1]
        low = min(alone(network, one, e) for one in images for e in range(4)) - 1
        rule = PassingAtRandom([0.1] * 4, seeding="hash", key=3)
        rule.log_odds = (low, values, low, low)
        first, *others = ways.exits(images, rule)
        assert all(torch.equal(exits, first) for exits in others)


def test_an_arbiter_fills_batches_of_a_fixed_size_and_decides_alike(network, monkeypatch):
    from envs.victim import ties

    images, rule = noise(11), Thresholds.from_log_odds([-1.0] * 4)
    state = torch.empty((11, 0))
    arbiter = Arbiter(network)
    with torch.no_grad():
        one = arbiter.leaves(2, images, rule=rule, state=state)
        chosen = arbiter.choose(images, rule=rule, state=state)
        monkeypatch.setattr(ties, "_TOGETHER", {})
        assert torch.equal(arbiter.leaves(2, images, rule=rule, state=state), one)
        assert torch.equal(arbiter.choose(images, rule=rule, state=state), chosen)
    assert one.shape == chosen.shape == (11,)


def test_nobody_is_copied_where_nobody_leaves(network):
    images = noise(12)
    rule = Thresholds([1 - 1e-12] * 4)  # asks everybody, lets nobody go
    way = Compaction(
        network,
        images,
        rule=rule,
        state=torch.empty((12, 0)),
        arbiter=Arbiter(network),
        chunks=(12,) * 5,
    )
    seen = []
    for stage in network.backbone.stages:
        hook = stage.register_forward_hook(
            lambda module, inputs, output: seen.append((inputs[0].data_ptr(), output.data_ptr()))
        )
        seen.append(hook)
    with torch.inference_mode():
        _, exits = way.run()
    for hook in [entry for entry in seen if not isinstance(entry, tuple)]:
        hook.remove()
    pointers = [entry for entry in seen if isinstance(entry, tuple)]
    assert (exits == 4).all()
    assert all(made == given for (_, made), (given, _) in itertools.pairwise(pointers))
