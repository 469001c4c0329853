"""dnf_plus: what its answers give away, what they cost, and what they keep."""

import copy
import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from envs.data.digits import digits_splits
from envs.defences import dnf_plus
from envs.defences.decoy import AnswerBank, Decoy, _projections
from envs.defences.dnf_plus import DNFPlus, Scores, measure, tail, together, upper
from envs.defences.harden_kit import HardenKit
from envs.errors import ScenarioError
from envs.game.clocks import make_clock
from envs.latency.model import LatencyModel
from envs.nets import registry
from envs.nets.exit_cost import profile
from envs.nets.guarded import Guarded
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.training.guards import GuardRecipe, train_guards
from envs.training.ood import ood_source
from envs.training.ood_sources import Material
from envs.training.recipes import recipe
from envs.training.victims import VictimTraining, train_victim
from envs.victim.victim import Victim

CPU = torch.device("cpu")
SPLITS = digits_splits()
SPEC = VictimTraining(
    network="resnet10", params={"width": 0.5}, recipe=recipe("digits", epochs=8), seed=0
)


def information(classes, num_classes):
    """Measure the information in nats between two (n,) labellings, without correction of bias.

    Independent labellings of n images have (K - 1)^2 / 2n nats on average.
    """
    first, second = classes
    joint = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    ones = torch.ones(len(first), dtype=torch.float64)
    joint.index_put_((first.cpu(), second.cpu()), ones, accumulate=True)
    joint /= joint.sum().clamp_min(1)
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    present = joint > 0
    return float((joint[present] * (joint[present] / product[present]).log()).sum())


@pytest.fixture(scope="module")
def backbone():
    return train_victim(SPLITS, SPEC, device=CPU)


def test_one_held_out_image_sets_no_threshold(backbone):
    kit = _kit()
    one = dataclasses.replace(kit.data, validation=kit.data.validation.select(slice(1)))
    with pytest.raises(ScenarioError, match="has 1; give at least 2"):
        DNFPlus(steps=1).harden(
            Victim(MultiExit(backbone, ())), HardenKit(one, Streams(0), CPU, victim_key={})
        )


def _kit(**changes):
    options = {"victim_key": SPEC.key(SPLITS), **changes}
    return HardenKit(SPLITS, Streams(0).child("harden"), CPU, **options)


def _harden(backbone, **params):
    defence = DNFPlus(**params)
    kit = _kit(expected=lambda profile: LatencyModel().expected(profile, deviations=4))
    return defence, defence.harden(Victim(MultiExit(copy.deepcopy(backbone))), kit)


@pytest.fixture(scope="module")
def hardened(backbone):
    return _harden(backbone, steps=600)


def _answer(hardened, images, *, latency="none", strength=1.0, seed=0):
    defence, victim = hardened
    with torch.no_grad():
        return defence.answer(
            victim,
            images,
            clock=make_clock(latency, Streams(seed)),
            generator=Streams(seed).torch("defence"),
            strength=strength,
        )


def _ood(name, count=400, seed=99, own=SPLITS.train):
    return ood_source(name, Material(own, torch.Generator().manual_seed(seed)))(count)


def _early(hardened, answer):
    guards = torch.tensor(hardened[1].network.guards)
    return torch.isin(answer.exits, guards)


# what benign users get


def test_own_images_keep_their_accuracy_within_two_points(hardened):
    images, labels = SPLITS.test.images(), SPLITS.test.labels
    whole = hardened[1].posteriors(images).argmax(1)
    served = _answer(hardened, images).posteriors.argmax(1)
    lost = (whole == labels).double().mean() - (served == labels).double().mean()
    assert float(lost) <= 0.02


def test_an_benign_query_costs_no_more_than_the_whole_network(hardened, backbone):
    defence, victim = hardened
    exits = _answer(hardened, SPLITS.test.images()).exits
    costs = torch.tensor(victim.profile.macs, dtype=torch.float64) + defence.overhead_macs
    assert float(costs[exits].mean()) <= profile(MultiExit(backbone)).macs[-1]


@pytest.mark.parametrize("source", ["uniform", "smooth", "mixup"])
def test_every_answer_is_one_of_the_bank_s_to_the_bit_and_tells_no_early_one(hardened, source):
    """Rounding by the posterior behind it would mark who left early in the last bits."""
    images = torch.cat([SPLITS.test.images(), _ood(source)])
    answer = _answer(hardened, images)
    assert _early(hardened, answer).any()
    bank = hardened[0]._bank._rows.sort(1).values
    served = answer.posteriors.float().sort(1).values
    assert all((bank == row).all(1).any() for row in served)


def test_a_decoy_s_projections_have_unit_variance_within_a_class_and_one_centre_for_all():
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    seen = torch.randn(200, 16, generator=chance) * torch.linspace(0.1, 2, 16)
    seen = seen + 3 * torch.randn(4, 16, generator=chance)[labels]
    mapped, offset = _projections(seen, labels, 5, chance)  # no image is of the fifth class
    flat = seen @ mapped - offset
    centres = torch.stack([flat[labels == k].mean(0) for k in range(4)])
    torch.testing.assert_close(centres, torch.zeros(4, 2), atol=1e-3, rtol=0)
    within = flat - centres[labels]
    torch.testing.assert_close(within.T @ within / 200, torch.eye(2), atol=1e-2, rtol=0)


def test_images_that_the_lane_answers_otherwise_are_harmed():
    """Labels of three images at the lane 0, 1, 2 and at the last exit 0, 2, 2."""
    guard, lane, last = torch.zeros(3, 3), torch.eye(3), torch.eye(3)[[0, 2, 2]]
    network = SimpleNamespace(lane=1, forward_all=lambda images: torch.stack((guard, lane, last)))
    own = SimpleNamespace(batches=lambda size: [(torch.zeros(3, 1, 8, 8), None)])
    found = measure(network, own)
    assert found.harmed.tolist() == [False, True, False]
    # of e^1 to two of e^0, and of three alike
    expected = torch.tensor([[-math.log(2)] * 3, [1 - math.log(2)] * 3]).double()
    torch.testing.assert_close(found.log_odds, expected)


@pytest.mark.parametrize(("harmed", "limit"), [([4.0, 5.0], 5.0), ([], 2.5)])
def test_the_lane_lets_nobody_go_who_would_be_harmed(monkeypatch, harmed, limit):
    """Half of the held-out scores 1, 2, 3, 4 lie above 2.5; 5 is an image of the training set."""

    def measured(network, own):
        held_out = torch.equal(own.pixels, SPLITS.validation.pixels)
        scores = torch.tensor([1.0, 2, 3, 4] if held_out else [5.0])
        log_odds = torch.stack((torch.arange(len(scores)).float(), scores))
        return Scores(log_odds, torch.isin(scores, torch.tensor(harmed)))

    monkeypatch.setattr(dnf_plus, "measure", measured)
    network = SimpleNamespace(guards=(0,), lane=1)
    assert DNFPlus(lane=0.5)._calibrate(network, _kit())[1] == limit


def test_the_lane_answers_as_the_last_exit_does_on_what_it_was_set_on(hardened):
    _, victim = hardened
    for part in (SPLITS.train, SPLITS.validation):
        images = part.images()
        answer = victim.answer(images, generator=torch.Generator())
        taken = answer.exits == victim.network.lane
        whole = victim.posteriors(images).argmax(1)
        assert int(taken.sum()) > 0
        assert torch.equal(answer.posteriors.argmax(1)[taken], whole[taken])


def test_the_backbone_stays_as_it_was(hardened, backbone):
    before, after = backbone.state_dict(), hardened[1].network.backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


# what an attacker gets


@pytest.mark.parametrize("source", ["generator", "shapes"])
def test_images_of_sources_never_trained_on_leave_early_and_learn_nothing(hardened, source):
    images = _ood(source)
    answer = _answer(hardened, images)
    whole = hardened[1].posteriors(images).argmax(1)
    early = _early(hardened, answer)
    assert float(early.double().mean()) > 0.9
    agreement = (answer.posteriors.argmax(1) == whole)[early].double().mean()
    assert float(agreement) < 0.3


def test_an_early_answer_tells_next_to_nothing_of_the_class(backbone):
    # of the victim's own images, as if all of them had left early
    images, labels = SPLITS.test.images(), SPLITS.test.labels
    bias = 9 * 9 / (2 * len(labels))
    found = []
    for key in range(8):
        decoy = Decoy(SPLITS.train, Streams(key), name="exit 0")
        classes = decoy.classes(images)
        found.append(information((classes, labels), 10) - bias)
        # neither the class itself nor its opposite
        assert 0.02 < float((classes == labels).double().mean()) < 0.2
    assert sum(found) / len(found) < 0.08  # nats, of 2.3


def test_early_answers_are_spread_over_the_classes(hardened):
    answer = _answer(hardened, _ood("mixup", 1000))
    early = _early(hardened, answer)
    shares = torch.bincount(answer.posteriors.argmax(1)[early], minlength=10) / int(early.sum())
    assert float(shares.max()) < 0.3
    assert int((shares > 0.02).sum()) >= 8


def test_confidence_does_not_tell_early_answers_from_late_ones(hardened):
    images = torch.cat([SPLITS.test.images(), _ood("mixup", 600)])
    answer = _answer(hardened, images)
    early = _early(hardened, answer)
    confidence = answer.posteriors.amax(1).double()
    grid = torch.linspace(0, 1, 200, dtype=torch.float64)
    first, second = (
        (confidence[part][:, None] <= grid).double().mean(0) for part in (early, ~early)
    )
    # Kolmogorov and Smirnov's distance, at 1 in 1,000
    count, rest = int(early.sum()), int((~early).sum())
    assert float((first - second).abs().max()) < 1.95 * (1 / count + 1 / rest) ** 0.5


def test_time_does_not_tell_at_which_exit_an_answer_left(hardened):
    images = torch.cat([SPLITS.test.images(slice(0, 200)), _ood("uniform", 200)])
    answer = _answer(hardened, images, latency="virtual")
    assert len(answer.exits.unique()) > 2
    assert len(answer.latency.unique()) == 1


def test_repeats_and_batches_tell_nothing(hardened):
    images = torch.cat([SPLITS.test.images(slice(0, 40)), _ood("mixup", 40)])
    whole = _answer(hardened, images).posteriors
    parts = [_answer(hardened, part, seed=7).posteriors for part in images.split(9)]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-6)


# contract


def test_answers_are_probabilities_and_the_strength_scales_them(hardened):
    images = torch.cat([SPLITS.test.images(slice(0, 40)), _ood("uniform", 40)])
    own, half, full = (_answer(hardened, images, strength=s) for s in (0.0, 0.5, 1.0))
    bare = hardened[1].answer(images, generator=torch.Generator()).posteriors
    assert torch.equal(own.posteriors, bare)
    assert torch.allclose(half.posteriors, (own.posteriors + full.posteriors) / 2, atol=1e-6)
    for answer in (own, half, full):
        assert not bool(answer.fault)
    distance = (full.posteriors - own.posteriors).abs().sum(1)
    assert float(distance.max()) <= hardened[0].epsilon


@pytest.mark.slow
def test_own_confidence_leaves_benign_posteriors_as_they_are(backbone):
    made = _harden(backbone, confidence="own")
    images = SPLITS.test.images(slice(0, 200))
    answer = _answer(made, images)
    benign = ~_early(made, answer)
    bare = made[1].answer(images, generator=torch.Generator()).posteriors
    assert torch.equal(answer.posteriors[benign], bare[benign])


def test_guards_read_every_stage_up_to_their_own():
    network = registry.build("resnet10-half", num_classes=10, image_shape=(1, 8, 8),
                             mean=(0.5,), std=(0.5,), generator=torch.Generator())  # fmt: skip
    guarded = Guarded(network, generator=torch.Generator().manual_seed(0)).eval()
    images = torch.rand((5, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    stages, features = [], images
    for stage in network.eval().stages:
        features = stage(features)
        stages.append(features.mean((2, 3)))
    seen = guarded.features(images)
    assert [part.shape[1] for part in seen] == [8, 24, 56, 56, 88, 32]
    assert torch.allclose(seen[4], torch.cat(stages, 1), atol=1e-6)
    assert torch.allclose(seen[5], network.embed(features), atol=1e-6)
    assert torch.equal(guarded.forward(images), network(images))


@pytest.mark.parametrize("name", ["conv-small", "mlp-small", "resnet10-half"])
def test_any_network_can_be_guarded(name):
    backbone = registry.build(name, num_classes=3, image_shape=(1, 8, 8), mean=(0.5,),
                              std=(0.5,), generator=torch.Generator())  # fmt: skip
    guarded = Guarded(backbone, generator=torch.Generator()).eval()
    images = torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = guarded.forward_all(images)
    assert logits.shape == (guarded.num_exits, 4, 3)
    assert torch.allclose(logits[-1], backbone.eval()(images), atol=1e-6)
    assert len(profile(guarded).macs) == guarded.num_exits


def test_guards_are_recalled_from_the_cache(backbone):
    told = []
    options = {"data": SPLITS, "streams": Streams(5), "victim_key": SPEC.key(SPLITS)}
    quick = GuardRecipe(steps=2)
    first = train_guards(backbone, quick, report=told.append, **options)
    lines = len(told)
    again = train_guards(backbone, quick, report=told.append, **options)
    assert len(told) == lines
    assert all(
        torch.equal(value, again.heads.state_dict()[name])
        for name, value in first.heads.state_dict().items()
    )


def test_a_bank_serves_the_class_it_is_told_with_somebody_elses_confidence():
    rows = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.05, 0.9]])
    bank = AnswerBank(rows, key=3)
    images = torch.rand((50, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    classes = torch.arange(50) % 3
    served = bank.dress(images, classes)
    assert torch.equal(served.argmax(1), classes)
    assert set(served.amax(1).tolist()) == {rows[0, 0].item(), rows[1, 2].item()}
    assert torch.allclose(served.sum(1), torch.ones(50))
    assert torch.equal(served, bank.dress(images, classes))
    with pytest.raises(ValueError, match="at least one posterior"):
        AnswerBank(rows[:0], key=0)


def test_information_is_that_of_the_joint_histogram():
    labels = torch.arange(4).repeat(5)
    assert information((labels, labels), 4) == pytest.approx(torch.tensor(4.0).log().item())
    assert information((labels, torch.zeros_like(labels)), 4) == pytest.approx(0)


def test_a_threshold_lies_above_the_share_that_may_leave():
    scores = torch.arange(200, dtype=torch.float64)
    for share, expected in ((0.0, 0), (0.005, 1), (0.1, 20), (1.0, 200)):
        assert int((scores > upper(scores, share)).sum()) == expected


@pytest.mark.parametrize("count", [1, 4])
def test_guards_together_suspect_their_share_of_new_images(count):
    chance = torch.Generator().manual_seed(2)
    guards, factor = list(range(count)), torch.arange(1, count + 2)[:, None]
    shares = []
    for _ in range(50):
        known, new = (
            5 + factor * torch.randn((count + 1, n), generator=chance).double() for n in (300, 2000)
        )
        values = torch.tensor(together(known, guards, 0.01))
        assert values[count] == torch.inf
        shares.append(float((new > values[:, None]).any(0).double().mean()))
    assert 0.004 < sum(shares) / len(shares) < 0.012  # a normal tail is shorter


def test_one_odd_image_does_not_open_the_gate():
    scores = torch.randn(300, generator=torch.Generator().manual_seed(0)).double()
    odd = scores.clone()
    odd[0] = 12
    assert tail(odd, 0.005) - tail(scores, 0.005) < 1
    assert tail(scores, 0) == torch.inf


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"suspected": 2}, "'suspected' in"),
        ({"lane": -1}, "'lane' in"),
        ({"confidence": "high"}, "'matched' or 'own'"),
        ({"steps": 0}, "steps"),
        ({"hidden": 0}, "hidden"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(params, message):
    with pytest.raises(ScenarioError, match=message):
        DNFPlus(**params)
