"""Claims about the victim."""

import pytest
import torch
from sklearn.datasets import load_digits

from envs.exits.random_rules import ByHistogram, PassingAtRandom
from envs.exits.rules import FinalOnly, Thresholds, log_odds, to_log_odds
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.registry import build
from envs.seeding import Streams
from envs.victim.victim import Victim


def stream(name: str = "rule") -> torch.Generator:
    return Streams(1).torch(name)


def make_network(name: str = "resnet10", heads: bool = True) -> MultiExit:
    generator = stream("network")
    backbone = build(name, num_classes=10, image_shape=(1, 8, 8), generator=generator)
    return with_heads(backbone, generator=generator) if heads else MultiExit(backbone)


@pytest.fixture(scope="module")
def victim() -> Victim:
    return Victim(make_network())


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.tensor(load_digits().images[:256] / 16, dtype=torch.float32)[:, None]


def middle_gap(scores: torch.Tensor) -> float:
    """Middle of the widest gap near the median: rounding of another batch size moves nobody."""
    near = scores.sort().values[len(scores) * 2 // 5 : len(scores) * 3 // 5]
    widest = int(near.diff().argmax())
    return float(near[widest : widest + 2].mean())


def spread(victim: Victim, images: torch.Tensor) -> Thresholds:
    with torch.no_grad():
        scores = [log_odds(logits) for logits in victim.network.forward_all(images)[:-1]]
    return Thresholds.from_log_odds([middle_gap(score) for score in scores])


def test_thresholds_above_one_answer_exactly_as_the_undefended_victim(victim, images):
    above = victim.with_rule(Thresholds([1.01] * 4)).answer(images, generator=stream())
    bare = Victim(MultiExit(victim.network.backbone)).answer(images, generator=stream())
    assert torch.equal(above.posteriors, bare.posteriors)
    assert torch.equal(above.posteriors, victim.posteriors(images))
    assert (above.exits == 4).all()
    assert (bare.exits == 0).all()


def test_thresholds_of_zero_let_everybody_leave_at_the_first_exit(victim, images):
    answer = victim.with_rule(Thresholds([0.0] * 4)).answer(images, generator=stream())
    assert (answer.exits == 0).all()


def test_answers_are_posteriors(victim, images):
    answer = victim.with_rule(spread(victim, images)).answer(images, generator=stream())
    assert answer.posteriors.dtype == torch.float32
    assert answer.exits.dtype == torch.int64
    assert (answer.posteriors >= 0).all()
    total = answer.posteriors.double().sum(1)
    torch.testing.assert_close(total, torch.ones(256, dtype=torch.float64), rtol=0, atol=1e-6)


def test_answers_without_random_exit_are_deterministic(victim, images):
    served = victim.with_rule(spread(victim, images))
    first = served.answer(images, generator=torch.Generator().manual_seed(1))
    second = served.answer(images, generator=torch.Generator().manual_seed(2))
    assert torch.equal(first.posteriors, second.posteriors)
    assert torch.equal(first.exits, second.exits)


@pytest.mark.parametrize("name", ["resnet10", "mobilenetv2-small", "densenet-small"])
def test_masked_and_compacted_victims_give_the_same_answers(name, images):
    network = make_network(name)
    victim = Victim(network)
    rule = spread(victim, images)
    compacted = victim.with_rule(rule).answer(images, generator=stream())
    masked = Victim(network, rule=rule, execution="masked").answer(images, generator=stream())
    each, seconds = victim.with_rule(rule).answer_each(images, generator=stream())
    assert torch.equal(compacted.exits, masked.exits)
    assert torch.equal(compacted.exits, each.exits)
    torch.testing.assert_close(compacted.posteriors, masked.posteriors, rtol=0, atol=1e-5)
    torch.testing.assert_close(compacted.posteriors, each.posteriors, rtol=0, atol=1e-5)
    assert seconds.shape == (256,)


def test_expected_macs_are_the_sum_over_the_exit_histogram(victim, images):
    served = victim.with_rule(spread(victim, images))
    exits = served.answer(images, generator=stream()).exits
    macs = torch.tensor(served.profile.macs, dtype=torch.float64)
    counts = torch.bincount(exits, minlength=served.num_exits).double()
    assert macs[exits].sum().item() == pytest.approx((macs * counts).sum().item(), rel=1e-12)
    assert (counts > 0).all()
    assert macs[exits].mean() < macs[-1]
    assert torch.equal(macs.sort().values, macs)


def test_an_answer_below_every_threshold_comes_from_the_last_exit(images):
    # the confidence filter of an attacker: what it keeps is undefended for certain
    network = make_network()
    with torch.no_grad():
        for weights in network.backbone.classifier.parameters():
            weights.mul_(0.01)  # a last exit that is unsure of itself
    rule = spread(Victim(network), images)
    answer = Victim(network, rule=rule).answer(images, generator=stream())
    kept = log_odds(answer.posteriors.double().log()) <= min(rule.log_odds)
    assert 0 < kept.sum() < 256
    assert (answer.exits[kept] == 4).all()
    assert (answer.exits[~kept] < 4).any()


def test_a_player_may_train_on_an_answer(victim, images):
    answer = victim.answer(images[:8], generator=stream())
    weights = torch.zeros(8, 10, requires_grad=True)
    torch.nn.functional.kl_div(
        weights.log_softmax(1), answer.posteriors, reduction="batchmean"
    ).backward()
    (weights * answer.posteriors).sum().backward()
    assert weights.grad is not None
    answer.exits.add_(0)


def test_a_victim_is_frozen_and_leaves_its_network_unchanged(images):
    network = make_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    victim = Victim(network)
    victim.with_rule(spread(victim, images)).answer(images, generator=stream())
    assert not network.training
    assert not any(weights.requires_grad for weights in network.parameters())
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_victim_tells_what_the_simulator_needs(victim):
    assert (victim.num_exits, victim.num_classes, victim.image_shape) == (5, 10, (1, 8, 8))
    assert victim.device == torch.device("cpu")
    assert victim.with_rule(FinalOnly()).profile is victim.profile
    assert victim.to("cpu") is victim


def test_a_random_rule_draws_from_the_stream_it_is_given(victim, images):
    served = victim.with_rule(ByHistogram([1, 1, 1, 1, 1]))
    first, second = (served.answer(images, generator=stream()).exits for _ in range(2))
    other = served.answer(images, generator=stream("other")).exits
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_chunks_change_neither_chance_nor_answers(victim, images):
    rule = ByHistogram([1, 1, 1, 1, 1])
    whole = victim.with_rule(rule).answer(images, generator=stream())
    chunked = Victim(victim.network, rule=rule, chunk=50).answer(images, generator=stream())
    assert torch.equal(chunked.exits, whole.exits)
    torch.testing.assert_close(chunked.posteriors, whole.posteriors, rtol=0, atol=1e-5)


def test_what_does_not_fit_the_network_is_refused():
    with pytest.raises(ValueError, match="expected 4 thresholds"):
        Victim(make_network(), rule=Thresholds([0.9]))
    with pytest.raises(ValueError, match="expected execution"):
        Victim(make_network(), execution="fast")


def test_published_thresholds_are_confidences_not_logits(victim, images):
    answer = victim.with_rule(Thresholds()).answer(images, generator=stream())
    early = answer.exits < 4
    confidence = answer.posteriors.amax(1)
    assert (confidence[early] > 0.9 - 1e-6).all()
    assert to_log_odds(0.9) == pytest.approx(2.1972245773362196)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_answers_of_the_cpu(images):
    on_cpu = Victim(make_network())
    rule = spread(on_cpu, images)
    expected = on_cpu.with_rule(rule).answer(images, generator=stream())
    on_gpu = on_cpu.with_rule(rule).to("cuda")
    answer = on_gpu.answer(images.cuda(), generator=torch.Generator("cuda"))
    same = answer.exits.cpu() == expected.exits  # a score within 1e-5 of a threshold may move
    assert same.float().mean() > 0.98
    torch.testing.assert_close(
        answer.posteriors.cpu()[same], expected.posteriors[same], rtol=0, atol=1e-3
    )


def test_a_rule_that_runs_every_exit_saves_nothing():
    all_run = Victim(make_network(), rule=PassingAtRandom([0.1] * 4, seeding="hash", key=3))
    stops = all_run.with_rule(Thresholds([0.1] * 4))
    assert all_run.profile.shares == (1.0,) * 5
    assert all_run.profile.macs[0] == stops.profile.macs[-1]
    assert sorted(set(stops.profile.shares)) == list(stops.profile.shares)
