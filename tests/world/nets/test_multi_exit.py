"""Exit heads, and the network that carries them."""

import math

import pytest
import torch
from torch import nn

from envs.nets import registry
from envs.nets.guarded import Guarded
from envs.nets.multi_exit import ExitHead, MultiExit, with_heads


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def _backbone(name="resnet10", shape=(1, 8, 8), num_classes=10):
    return registry.build(
        name, num_classes=num_classes, image_shape=shape, generator=_seeded(), mean=(0.3,)
    )


def _images(count=6, shape=(1, 8, 8)):
    return torch.rand(count, *shape, generator=_seeded(1))


@pytest.mark.parametrize("name", ["resnet10", "mobilenetv2-small", "densenet-small", "mlp-small"])
@pytest.mark.parametrize("exits", [None, (0,), (1,), ()])
def test_running_the_segments_one_by_one_gives_every_exits_answer(name, exits):
    network = with_heads(_backbone(name), generator=_seeded(), exits=exits).eval()
    images = _images()
    together = network.forward_all(images)
    assert together.shape == (network.num_exits, 6, 10)
    features = images
    for e in range(network.num_exits):
        features = network.run_segment(e, features)
        assert torch.equal(network.logits(e, features), together[e])
    assert torch.equal(network(images), together[-1])
    assert torch.equal(network(images), network.backbone(images))


def test_a_batch_may_shrink_between_the_segments():
    network = with_heads(_backbone(), generator=_seeded()).eval()
    images = _images(8)
    together = network.forward_all(images)
    stay = torch.tensor([0, 3, 7])
    features = network.run_segment(1, network.run_segment(0, images)[stay])
    torch.testing.assert_close(network.logits(1, features), together[1, stay])


def test_a_network_without_heads_has_one_exit():
    backbone = _backbone().eval()
    network = MultiExit(backbone).eval()
    assert (network.num_exits, network.exit_stages, len(network.heads)) == (1, (), 0)
    assert torch.equal(network.forward_all(_images())[0], backbone(_images()))


def test_exits_sit_after_the_stages_asked_for():
    network = with_heads(_backbone(), generator=_seeded(), exits=(0, 2))
    assert network.num_exits == 3
    assert network.exit_stages == (0, 2)
    assert network.segments == ((0, 1), (1, 3), (3, 4))
    assert [network.head(e).width for e in range(2)] == [16, 64]
    assert with_heads(_backbone(), generator=_seeded()).segments[-1] == (4, 4)


def test_pooled_features_are_all_that_every_exit_needs():
    network = with_heads(_backbone(), generator=_seeded()).eval()
    pooled = network.features(_images())
    assert [tuple(vectors.shape) for vectors in pooled] == [
        (6, 16), (6, 32), (6, 64), (6, 64), (6, 64),
    ]  # fmt: skip
    together = network.forward_all(_images())
    for e, vectors in enumerate(pooled):
        assert torch.equal(network.answer(e, vectors), together[e])


@pytest.mark.parametrize("name", ["resnet10", "mobilenetv2-small", "densenet-small", "mlp-small"])
@pytest.mark.parametrize("carry", [with_heads, Guarded])
def test_pooled_features_keep_no_map_alive(name, carry):
    """Who gathers them over a data set would otherwise hold every map of it."""
    network = carry(_backbone(name), generator=_seeded()).eval()
    with torch.no_grad():
        for vectors in network.features(_images())[:-1]:
            assert vectors.untyped_storage().nbytes() == vectors.numel() * vectors.element_size()


@pytest.mark.parametrize("exits", [(1, 0), (0, 0), (4,), (-1,)])
def test_exits_that_are_not_rising_stages_are_refused(exits):
    with pytest.raises(ValueError, match=r"rising stages out of 0 to 3 of resnet10, got"):
        with_heads(_backbone(), generator=_seeded(), exits=exits)


def test_a_head_must_fit_its_stage():
    with pytest.raises(ValueError, match="from 16 channels to 10 classes after stage 0"):
        MultiExit(_backbone(), [ExitHead(32, 10, generator=_seeded())])
    with pytest.raises(ValueError, match="one stage per head, got 2 for 1"):
        MultiExit(_backbone(), [ExitHead(16, 10, generator=_seeded())], exits=(0, 1))


def test_a_head_is_two_linear_layers_with_a_relu_between():
    head = ExitHead(16, 10, generator=_seeded())
    pooled = torch.randn(4, 16, generator=_seeded(2))
    hidden = pooled @ head.mean.weight.T + head.mean.bias
    expected = hidden.clamp_min(0) @ head.answer.weight.T + head.answer.bias
    torch.testing.assert_close(head(pooled), expected)
    assert head.mean.out_features == 100


def test_a_head_without_relu_is_a_linear_classifier():
    head = ExitHead(16, 10, generator=_seeded(), relu=False)
    one, two = torch.randn(2, 3, 16, generator=_seeded(2))
    torch.testing.assert_close(head(one + two), head(one) + head(two) - head(torch.zeros(3, 16)))


def test_a_stochastic_head_serves_the_mean_and_starts_at_a_variance_of_exp_minus_three():
    plain = ExitHead(16, 10, generator=_seeded())
    stochastic = ExitHead(16, 10, generator=_seeded(), stochastic=True)
    pooled = torch.randn(4, 16, generator=_seeded(2))
    mean, log_variance = stochastic.code(pooled)
    assert mean.shape == log_variance.shape == (4, 100)
    assert torch.equal(stochastic(pooled), stochastic.answer_code(mean))
    assert torch.equal(stochastic(pooled), plain(pooled))
    assert torch.equal(stochastic.code(torch.zeros(1, 16))[1], torch.full((1, 100), -3.0))


def test_the_log_variance_is_clamped_to_its_range():
    head = ExitHead(16, 10, generator=_seeded(), stochastic=True)
    _, log_variance = head.code(1e4 * torch.randn(4, 16, generator=_seeded(2)))
    assert (log_variance.min().item(), log_variance.max().item()) == (-8.0, 2.0)


def test_a_deterministic_head_has_no_variance_to_give():
    head = ExitHead(16, 10, generator=_seeded())
    pooled = torch.zeros(1, 16)
    with pytest.raises(ValueError, match="build it with stochastic=True"):
        head.code(pooled)
    assert torch.equal(head.answer_code(head.code_mean(pooled)), head(pooled))


def test_a_layer_norm_before_the_pooling_is_one_split_around_it():
    network = with_heads(_backbone(), generator=_seeded(), layer_norm=True).eval()
    head = network.head(0)
    with torch.no_grad():
        head.affine.weight.copy_(torch.rand(16, generator=_seeded(3)))
        head.affine.bias.copy_(torch.rand(16, generator=_seeded(4)))
    features = network.run_segment(0, _images())
    norm = nn.LayerNorm(16)
    norm.load_state_dict(head.affine.state_dict())
    tokens = norm(features.permute(0, 2, 3, 1)).mean((1, 2))
    expected = head.answer_code(head.mean(tokens))
    torch.testing.assert_close(network.logits(0, features), expected, rtol=1e-4, atol=1e-5)


def test_tokens_are_pooled_over_their_number():
    tokens = torch.randn(2, 7, 5, generator=_seeded())
    assert torch.equal(_backbone().pool(tokens), tokens.mean(1))


def test_heads_come_from_their_generator_and_leave_the_global_state_alone():
    backbone = _backbone()
    state = torch.get_rng_state()
    first, again = (with_heads(backbone, generator=_seeded(5)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.head(3).answer.weight, again.head(3).answer.weight)
    assert not torch.equal(first.head(2).mean.weight, first.head(3).mean.weight)


def test_training_the_heads_of_a_frozen_backbone_moves_nothing_in_it():
    network = with_heads(_backbone(), generator=_seeded())
    network.freeze_backbone()
    before = {key: value.clone() for key, value in network.backbone.state_dict().items()}
    head_before = network.head(0).mean.weight.detach().clone()
    network.train()
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        logits = network.forward_all(_images())[:-1]
        logits.square().mean().backward()
        optimizer.step()
    after = network.backbone.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not torch.equal(network.head(0).mean.weight, head_before)
    assert network.heads.training


def test_the_released_training_lets_the_statistics_of_a_frozen_backbone_drift():
    network = with_heads(_backbone(), generator=_seeded())
    network.freeze_backbone(keep_statistics=False)
    norm = network.backbone.stages[0][1][0][1]
    before = norm.running_mean.clone()
    network.train()
    network.forward_all(_images())
    assert not torch.equal(norm.running_mean, before)
    assert not any(weights.requires_grad for weights in network.backbone.parameters())


def test_a_multi_exit_network_round_trips_through_its_state():
    saved = with_heads(_backbone(), generator=_seeded(1), stochastic=True).eval()
    loaded = with_heads(_backbone(), generator=_seeded(2), stochastic=True).eval()
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded.forward_all(_images()), saved.forward_all(_images()))


def test_answers_at_the_start_are_near_uniform():
    network = with_heads(_backbone(), generator=_seeded()).eval()
    posteriors = network.forward_all(_images(64)).softmax(-1)
    entropy = -(posteriors * posteriors.log()).sum(-1).mean(1)
    assert (entropy[:4] > 0.9 * math.log(10)).all()
