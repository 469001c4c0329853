"""DisGUIDE and Dual Students: two clones, and a generator that asks the victim nothing."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.disguide import DisGUIDE
from agents.attackers.dual_students import DualStudents
from agents.base import granted
from agents.learning.ensemble import Committee, apart, disputed
from agents.learning.replay_buffer import Replay
from agents.learning.schedules import settings_for
from envs.errors import ScenarioError
from envs.nets.init import initialise
from envs.seeding import Streams


@pytest.fixture
def kit(kit):
    """A kit whose clones differ, as a real one's do."""

    def lend(seed=0, **options):
        lent = kit(seed, **options)
        counter = iter(range(100, 10_000))

        def clone():
            network = lent.new_clone()
            initialise(network, generator=Streams(next(counter)).torch("weights"))
            return network

        return replace(lent, new_clone=clone)

    return lend


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()


def test_a_committee_answers_by_the_mean_posterior():
    logits = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
    mean = logits.softmax(2).mean(0)
    assert torch.allclose(Committee.mean_logits(logits).softmax(1), mean)


def test_dispute_is_the_deviation_over_members_and_0_in_agreement():
    logits = torch.log(torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]]]))
    assert float(disputed(logits)) == pytest.approx(0.2 * 2**0.5)  # of a sample of two
    assert float(disputed(logits[:1].repeat(2, 1, 1))) < 1e-5
    assert float(apart(torch.tensor([[[1.0, 2.0]], [[0.0, 4.0]]]))) == 1.5


def test_disguide_spends_every_query_on_its_clones(fake_oracle, kit):
    oracle = fake_oracle(83)
    attacker = DisGUIDE(batch=20)
    attacker.attack(oracle, kit())
    assert oracle.requests == [20, 20, 20, 20, 3]
    assert attacker.iterations == 4


def test_dual_students_cost_five_sevenths_of_dfme(fake_oracle, kit):
    settings = settings_for((3, 32, 32))
    assert DualStudents().iteration_cost(settings) == 1_280
    assert settings.cost == 1_792
    oracle = fake_oracle(100)
    DualStudents(batch=10).attack(oracle, kit())
    assert oracle.requests == [10] * 10


@pytest.mark.parametrize("attack", [DisGUIDE, DualStudents])
def test_the_generator_drives_the_clones_apart_and_asks_nothing(fake_oracle, kit, attack):
    oracle = fake_oracle(10**6)
    attacker = attack(batch=32, generator_rate=3e-3)
    kit = kit()
    attacker.prepare(oracle, kit)
    committee = attacker.trainer.clone
    before = weights(committee)
    for _ in range(40):
        attacker.generator_step(oracle, kit)
    distances = [float(value) for value in attacker._seen["clones_apart"]]
    assert sum(distances[-5:]) > 1.05 * sum(distances[:5])
    assert oracle.requests == []
    assert torch.equal(weights(committee), before)


@pytest.mark.parametrize(
    ("attack", "labels"),
    [
        (DisGUIDE, "soft"),
        (DualStudents, "hard"),
        pytest.param(DisGUIDE, "hard", marks=pytest.mark.slow),
        pytest.param(DualStudents, "soft", marks=pytest.mark.slow),
    ],
)
def test_both_learn_from_soft_and_from_hard_labels(game, kit, agrees, attack, labels):
    match, oracle = game(2_000, labels)
    attacker = attack(batch=32, clone_rate=0.1)
    granted(attacker, labels=labels, latency_visible=False, pool=False)
    attacker.attack(oracle, kit())
    # four classes; hard labels leave 0.446 on one processor, and more than 0.45 on others
    assert agrees(match, attacker.clone) > 0.35
    assert not attacker.clone.training


def test_replayed_batches_cost_nothing(fake_oracle, kit):
    steps = []

    class Watched(DisGUIDE):
        def _step(self, images, targets):
            steps.append(len(images))
            return super()._step(images, targets)

    oracle = fake_oracle(40)
    Watched(batch=20, replays=3).attack(oracle, kit())
    assert steps == [20] * 8
    assert oracle.remaining == 0


def test_a_replay_keeps_the_latest_and_gives_images_with_their_answers():
    replay = Replay(10, (1, 2, 2), num_classes=3, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="none so far"):
        replay.draw(1, Streams(0).torch("draw"))
    for start in range(0, 24, 4):
        marks = torch.arange(start, start + 4) / 255
        replay.add(
            marks.view(-1, 1, 1, 1).expand(-1, 1, 2, 2), marks.view(-1, 1).expand(-1, 3) * 255
        )
    assert len(replay) == 10
    images, targets = replay.draw(400, Streams(0).torch("draw"))
    assert torch.equal((images[:, 0, 0, 0] * 255).round(), targets[:, 0])
    assert set(targets[:, 0].tolist()) == set(range(14, 24))


def test_the_average_of_a_short_game_is_no_unborn_clone(fake_oracle, kit):
    attacker = DualStudents(batch=10)
    kit = kit()
    attacker.attack(fake_oracle(100), kit)
    # two iterations: the average followed once, to the first student itself
    assert torch.equal(weights(attacker.clone), weights(attacker.trainer.clone.members[0]))


def test_what_cannot_be_played_is_refused():
    with pytest.raises(ScenarioError, match="expected replays"):
        DisGUIDE(replays=-1)
    with pytest.raises(ScenarioError, match="expected averaging"):
        DualStudents(averaging=1.0)
