"""The Dynamic Neural Fortress: its variants, what training may touch, and what it does."""

import copy
import math
from itertools import product

import pytest
import torch

from envs.data.digits import digits_splits
from envs.data.images import ImageSet
from envs.defences.base import DeployedDefence
from envs.defences.dnf import DNF
from envs.defences.harden_kit import HardenKit
from envs.errors import ScenarioError, UnknownName
from envs.exits.random_rules import ByFlag, ByHistogram, CoinThresholds, PassingAtRandom
from envs.exits.rules import Thresholds
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.rounds import Countermeasure
from envs.nets import registry
from envs.nets.multi_exit import MultiExit, with_heads
from envs.seeding import Streams
from envs.training import fortress
from envs.training.exit_training import ExitRecipe, train_exits
from envs.training.fortress_recipe import VARIANTS
from envs.training.objective import BoundObjective, ReleasedObjective, Weights
from envs.training.ood import ood_source
from envs.training.ood_sources import Material
from envs.training.recipes import recipe
from envs.training.victims import VictimTraining, train_victim
from envs.types import ThreatModel
from envs.victim.victim import Victim

CPU = torch.device("cpu")
NONE = torch.Generator()
QUICK = {"epochs": 1, "thresholds": "published"}


@pytest.fixture(scope="module")
def splits():
    return digits_splits()


@pytest.fixture(scope="module")
def spec():
    return VictimTraining(
        network="resnet10", params={"width": 0.5}, recipe=recipe("digits", epochs=8), seed=0
    )


@pytest.fixture(scope="module")
def backbone(splits, spec):
    return train_victim(splits, spec, device=CPU)


@pytest.fixture
def victim(backbone):
    return Victim(MultiExit(copy.deepcopy(backbone)))


@pytest.fixture
def kit(splits, spec):
    return HardenKit(splits, Streams(0).child("harden"), CPU, spec.key(splits))


@pytest.fixture(scope="module")
def hardened(splits, spec, backbone):
    """The default fortress and its plain control, fully trained."""
    made = {}
    for variant in ("intended", "plain"):
        defence = DNF(variant)
        kit = HardenKit(splits, Streams(0).child("harden"), CPU, spec.key(splits))
        network = MultiExit(copy.deepcopy(backbone))
        made[variant] = (defence, defence.harden(Victim(network), kit))
    return made


def _state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _changed(before, after):
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


# what the fortress does


def test_own_images_keep_their_accuracy_within_two_points(hardened, splits):
    _, fortress_victim = hardened["intended"]
    images, labels = splits.test.images(), splits.test.labels
    served = fortress_victim.answer(images, generator=NONE).posteriors.argmax(1)
    whole = fortress_victim.posteriors(images).argmax(1)
    lost = (whole == labels).double().mean() - (served == labels).double().mean()
    assert float(lost) <= 0.02


@pytest.mark.parametrize("source", ["generator", "shapes"])
def test_images_of_sources_never_trained_on_leave_early_and_learn_little(hardened, splits, source):
    images = ood_source(source, Material(splits.train, torch.Generator().manual_seed(99)))
    ood = torch.cat([images(100) for _ in range(4)])
    shares, agreement, costs = {}, {}, {}
    for variant, (_, served_by) in hardened.items():
        answer = served_by.answer(ood, generator=NONE)
        whole = served_by.posteriors(ood).argmax(1)
        shares[variant] = float((answer.exits < 4).double().mean())
        agreement[variant] = float((answer.posteriors.argmax(1) == whole).double().mean())
        cost = torch.tensor(served_by.profile.shares)[answer.exits]
        costs[variant] = float(cost.mean())
    assert shares["intended"] > 0.8 > 0.3 > shares["plain"]
    # whoever stays agrees, so that 0.7 follows from the share: another processor trains other exits
    assert agreement["intended"] < 0.4 < 0.7 < agreement["plain"]
    assert costs["intended"] < 0.6 < 0.75 < costs["plain"]


def test_it_tells_how_its_early_answers_look(hardened):
    defence, _ = hardened["intended"]
    assert sum(defence.seen_early.exits) == pytest.approx(1)
    assert sum(defence.seen_early.classes) == pytest.approx(1)
    assert defence.seen_early.exits[-1] < 0.2
    assert hardened["plain"][0].seen_early is None


def test_answers_repeat_and_their_cost_is_the_sum_over_exits(hardened, splits):
    defence, served_by = hardened["intended"]
    images = torch.cat(
        [splits.test.images(slice(0, 50)), torch.rand(50, 1, 8, 8, generator=torch.Generator())]
    )
    first, second = (served_by.answer(images, generator=NONE) for _ in range(2))
    assert torch.equal(first.posteriors, second.posteriors)

    class Defender:
        def act(self, view):
            return Countermeasure()

        def learn(self, served):
            pass

    streams = Streams(0)
    game = ExtractionGame(
        ThreatModel(10, (1, 8, 8), 100),
        [DeployedDefence("dnf", defence, served_by)],
        Defender(),
        clock=make_clock("none", streams),
        streams=streams,
    )
    game.play(images)
    spent = sum(served_by.profile.macs[e] for e in first.exits.tolist())
    assert game.tally().attack.macs == pytest.approx(spent)


def test_confident_early_answers_betray_no_final_one(hardened, splits):
    # an attacker who keeps what is at most as confident as the least threshold gets exit N alone
    _, calibrated = hardened["plain"]
    served_by = calibrated.with_rule(Thresholds())
    images = torch.cat([splits.test.images(), torch.rand(300, 1, 8, 8, generator=NONE)])
    answer = served_by.answer(images, generator=NONE)
    kept = answer.posteriors.max(1).values <= 0.9
    assert 0 < int(kept.sum()) < len(images)
    assert (answer.exits[kept] == 4).all()


def test_thresholds_above_one_serve_the_victim_and_zero_the_first_exit(victim, kit, splits):
    images = splits.test.images(slice(0, 64))
    deep = DNF(epochs=1, thresholds=[1.1] * 4).harden(victim, kit).answer(images, generator=NONE)
    assert torch.equal(deep.posteriors, victim.posteriors(images))
    assert (deep.exits == 4).all()
    shallow = DNF(epochs=1, thresholds=[0.0] * 4).harden(victim, kit)
    assert (shallow.answer(images, generator=NONE).exits == 0).all()


# what training may touch


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "released"])
def test_training_exits_changes_nothing_of_the_backbone(victim, kit, variant):
    before = _state(victim.network.backbone)
    made = DNF(variant, **QUICK).harden(victim, kit)
    assert not _changed(before, victim.network.backbone.state_dict())
    assert not _changed(before, made.network.backbone.state_dict())


def test_the_released_training_lets_batch_statistics_drift_and_nothing_else(victim, kit):
    before = _state(victim.network.backbone)
    made = DNF("released", epochs=2).harden(victim, kit)
    assert not _changed(before, victim.network.backbone.state_dict())
    changed = _changed(before, made.network.backbone.state_dict())
    assert changed
    assert all("running_" in name or "num_batches" in name for name in changed)


@pytest.mark.parametrize(("moving", "still"), [("last", "stages.2"), ("all", None)])
def test_a_trained_backbone_moves_as_far_as_told_and_keeps_its_statistics(
    victim, kit, splits, moving, still
):
    before = _state(victim.network.backbone)
    made = DNF(backbone=moving, **QUICK).harden(victim, kit)
    changed = _changed(before, made.network.backbone.state_dict())
    assert any(name.startswith("stages.3") for name in changed)
    assert any(name.startswith("stages.0") for name in changed) == (still is None)
    assert not any("running_" in name for name in changed)
    images, labels = splits.test.images(), splits.test.labels
    accuracies = [
        float((v.posteriors(images).argmax(1) == labels).double().mean()) for v in (victim, made)
    ]
    assert accuracies[1] > accuracies[0] - 0.02


def test_without_ood_images_and_entropies_it_is_plain_bit_for_bit(victim, kit):
    plain = DNF("plain", **QUICK).harden(victim, kit)
    made = DNF(
        "intended", alpha=0.0, ood="none", estimator="none", x_info="none", w_c=0.0, **QUICK
    ).harden(victim, kit)
    assert not _changed(_state(plain.network), made.network.state_dict())
    other = DNF("intended", w_c=0.0, **QUICK).harden(victim, kit)
    assert _changed(_state(plain.network), other.network.state_dict())


def test_a_cached_deployed_defence_is_the_one_that_was_trained(victim, kit, monkeypatch):
    first = DNF("id-only", epochs=2).harden(victim, kit)

    def no_training(*args, **kwargs):
        raise AssertionError("trained although cached")

    monkeypatch.setattr(fortress, "train_exits", no_training)
    defence = DNF("id-only", epochs=2)
    again = defence.harden(victim, kit)
    assert not _changed(_state(first.network), again.network.state_dict())
    assert again.rule.describe() == first.rule.describe()
    # other thresholds want no other training, another weight does
    DNF("id-only", epochs=2, thresholds="published").harden(victim, kit)
    with pytest.raises(AssertionError, match="although cached"):
        DNF("id-only", epochs=2, alpha=0.2).harden(victim, kit)


def test_one_seed_makes_one_deployed_defence_without_a_cache(victim, splits):
    kit = HardenKit(splits, Streams(3), CPU)
    states = [_state(DNF(estimator="C", x_info="N", **QUICK).harden(victim, kit).network)
              for _ in range(2)]  # fmt: skip
    assert not _changed(*states)
    other = HardenKit(splits, Streams(4), CPU)
    made = DNF(estimator="C", x_info="N", **QUICK).harden(victim, other)
    assert _changed(states[0], made.network.state_dict())


# the released code


@pytest.mark.parametrize(("schedule", "epochs"), [("epoch-0", {0}), ("every-2nd", {0, 2})])
def test_ood_images_are_used_in_their_epochs_alone(backbone, splits, schedule, epochs):
    network = with_heads(copy.deepcopy(backbone), generator=torch.Generator().manual_seed(0))
    seen = []

    def draw(count):
        seen.append(count)
        return torch.rand(count, 1, 8, 8, generator=NONE)

    few = splits.train.select(slice(0, 96))
    train_exits(
        network,
        ReleasedObjective(network, (0.1,) * 5),
        ExitRecipe(epochs=4, batch=32, ood_batch=16, ood_schedule=schedule),
        data=few,
        draw=draw,
        order=torch.Generator().manual_seed(0),
    )
    assert seen == [16] * 3 * len(epochs)


@pytest.mark.slow
def test_a_rate_of_full_weight_stops_all_early_leaving(victim, kit, splits):
    # equation 2 with unit weights is minimised by a constant code
    images, shares = splits.test.images(), []
    for weight in (1.0, 1e-3):
        switches = {"alpha": 0.0, "w_c": weight, "thresholds": [0.9] * 4, "epochs": 20}
        made = DNF("id-only", **switches).harden(victim, kit)
        exits = made.answer(images, generator=NONE).exits
        shares.append(float((exits < 4).double().mean()))
    assert shares[0] < 0.02
    assert shares[1] > 0.5


def test_standardised_training_serves_plain_features(backbone, splits):
    network = with_heads(copy.deepcopy(backbone), generator=torch.Generator().manual_seed(0))
    zero = Weights((0.0,) * 5)
    objective = BoundObjective(network, zero, chance=NONE, initial=NONE)
    seen = []

    class Spy:
        id_loss = staticmethod(lambda pooled, labels: (
            seen.append(pooled), objective.id_loss(pooled, labels))[1])  # fmt: skip
        extra_parameters = staticmethod(list)

    train_exits(
        network, Spy(), ExitRecipe(epochs=1, batch=1000, learning_rate=1e-12),
        data=splits.train, draw=None, order=torch.Generator().manual_seed(0),
    )  # fmt: skip
    for part in seen[0][:-1]:
        assert torch.allclose(part.mean(0), torch.zeros(part.shape[1]), atol=1e-3)
    # a rate of nearly zero moves nothing: folded heads answer as the standardised ones did
    fresh = with_heads(copy.deepcopy(backbone), generator=torch.Generator().manual_seed(0))
    order = torch.Generator().manual_seed(0)
    images = splits.train.images(torch.randperm(len(splits.train), generator=order))
    with torch.no_grad():
        for e, pooled in enumerate(network.features(images)[:-1]):
            expected = fresh.answer(e, seen[0][e])
            assert torch.allclose(network.answer(e, pooled), expected, atol=1e-3)


def test_random_exit_draws_from_the_histogram_of_the_intended_defence(
    hardened, victim, kit, splits
):
    defence = DNF("random-exit")
    made = defence.harden(victim, kit)
    assert isinstance(made.rule, ByHistogram)
    assert sum(made.rule.shares) == pytest.approx(1)
    # half OOD images, nearly all of which leave early, and half own ones, which do not
    assert 0.35 < 1 - made.rule.shares[-1] < 0.65
    _, plain = hardened["plain"]
    assert not _changed(_state(plain.network), made.network.state_dict())
    images = splits.test.images(slice(0, 100))
    first, second = (made.answer(images, generator=NONE).exits for _ in range(2))
    assert torch.equal(first, second)


def test_the_oracle_control_reads_the_hidden_flag_and_says_so(victim, kit, splits):
    defence = DNF("oracle-ood", epochs=1)
    made = defence.harden(victim, kit)
    images = splits.test.images(slice(0, 20))
    assert isinstance(made.rule, ByFlag)
    assert defence.simulated
    assert not DNF().simulated
    assert (made.answer(images, generator=NONE, ood=True).exits == 0).all()
    assert (made.answer(images, generator=NONE, ood=False).exits == 4).all()


@pytest.mark.parametrize(("rule", "kind"), [("random", PassingAtRandom), ("leaky", CoinThresholds)])
def test_chance_in_the_rule_is_a_function_of_the_image(victim, kit, splits, rule, kind):
    made = DNF("plain", rule=rule, epochs=4, thresholds=[0.3, 0.3, 0.3, 0.0]).harden(victim, kit)
    assert isinstance(made.rule, kind)
    images = splits.test.images()
    first, second = (made.answer(images, generator=NONE).exits for _ in range(2))
    assert torch.equal(first, second)
    assert len(first.unique()) > 2


def test_exits_may_be_at_some_stages_only(victim, kit, splits):
    made = DNF(exits=[0, 2], alpha=[0.1, 0.5], epochs=1).harden(victim, kit)
    assert made.network.exit_stages == (0, 2)
    assert made.answer(splits.test.images(slice(0, 8)), generator=NONE).posteriors.shape == (8, 10)


EACH_ONCE = {("C", "R"), ("M", "none"), ("U", "N"), ("none", "R")}


@pytest.mark.parametrize(
    ("estimator", "x_info"),
    [
        pytest.param(*pair, marks=[] if pair in EACH_ONCE else [pytest.mark.slow])
        for pair in product(("C", "M", "U", "none"), ("R", "N", "none"))
    ],
)
def test_every_estimator_trains(victim, kit, estimator, x_info):
    made = DNF(estimator=estimator, x_info=x_info, w_s=0.1, **QUICK).harden(victim, kit)
    weights = made.network.heads.state_dict().values()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights)


def test_a_task_of_many_classes_trains():
    classes = 120
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (256, 1, 8, 8), dtype=torch.uint8, generator=generator)
    names = tuple(str(k) for k in range(classes))
    data = ImageSet(pixels, torch.arange(256) % classes, classes, "many", names)
    network = with_heads(
        registry.build(
            "conv-small", num_classes=classes, image_shape=(1, 8, 8), generator=generator
        ),
        generator=generator,
        hidden=32,
    )
    weights = Weights((0.1,) * 3, estimator="M")
    objective = BoundObjective(network, weights, chance=generator, initial=generator)
    draw = ood_source("uniform", Material(data, generator))
    train_exits(network, objective, ExitRecipe(epochs=2), data=data, draw=draw, order=generator)
    assert all(math.isfinite(float(t.detach().sum())) for t in network.parameters())


def test_a_switch_that_does_not_fit_the_victim_is_named(victim, kit):
    for switches, message in (
        ({"alpha": [0.1, 0.2]}, "one for each of 4 early exits, got 2"),
        ({"exits": [3, 9]}, "'exits' do not fit this victim"),
        ({"thresholds": [0.9], "epochs": 1}, "expected 4 thresholds"),
        ({"tolerance": 0.001, "epochs": 1}, "held-out images cannot prove"),
    ):
        with pytest.raises(ScenarioError, match=message):
            DNF(**switches).harden(victim, kit)
    with pytest.raises(UnknownName, match="did you mean 'uniform'"):
        DNF(ood="unifrom", epochs=1).harden(victim, kit)
