"""S4L is Knockoff with a second head that tells how images of the pool were turned."""

import math

import pytest
import torch

from agents.attackers.knockoff import Knockoff
from agents.attackers.s4l import S4L, RotationLoss, TwoHeads, all_turns
from agents.learning.features import with_features
from envs.data.images import ImageSet, bytes_to_unit
from envs.errors import PlayerError
from envs.seeding import Streams
from envs.training.loop import cross_entropy


def weights(clone):
    return torch.cat([p.detach().flatten() for p in clone.parameters()])


def test_a_quarter_turn_is_counter_clockwise():
    turned, labels = all_turns(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    assert labels.tolist() == [0, 1, 2, 3]
    assert turned[1, 0].tolist() == [[2, 4], [1, 3]]
    assert turned[2, 0].tolist() == [[4, 3], [2, 1]]


def test_an_undecided_head_costs_the_logarithm_of_four(kit, posteriors, random_pool):
    pixels = random_pool().pixels
    both = TwoHeads(kit().new_clone(), pixels[:1]).eval()
    images = bytes_to_unit(pixels[:10])
    loss = RotationLoss(pixels, 2.0, 6, Streams(0).torch("draws"))
    answered = cross_entropy(both(images), posteriors(images))
    value = loss(both, images, posteriors(images))
    assert float((value - answered).detach()) == pytest.approx(2 * math.log(4), rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_without_weight_it_is_knockoff_bit_for_bit(fake_oracle, posteriors, with_pool, weight):
    thief, plain = S4L(weight=weight, epochs=2), Knockoff(epochs=2)
    for attacker in (thief, plain):
        attacker.attack(fake_oracle(50, posteriors), with_pool())
    assert torch.equal(weights(thief.clone), weights(plain.clone)) == (weight == 0)


def test_the_clone_comes_to_tell_turns_apart(fake_oracle, with_pool, monkeypatch):
    """Images are bright at the top, so that a turn shows; the answers say nothing."""
    rows = torch.linspace(255, 0, 8).view(1, 1, 8, 1).expand(80, 1, 8, 8)
    noise = torch.randint(-60, 60, rows.shape, generator=Streams(1).torch("noise"))
    pixels = (rows + noise).clamp(0, 255).to(torch.uint8)
    pool = ImageSet(pixels, torch.zeros(80, dtype=torch.int64), 1, "pool", ("0",))
    made = []

    class Kept(TwoHeads):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("agents.attackers.s4l.TwoHeads", Kept)
    S4L(epochs=12, request=20).attack(fake_oracle(40), with_pool(pool))
    turned, labels = all_turns(bytes_to_unit(pixels))
    (both,) = made
    with torch.no_grad():
        features, _ = with_features(both.clone.eval(), turned)
        told = both.head(features).argmax(1)
    assert float((told == labels).float().mean()) > 0.9


def test_images_that_a_turn_reshapes_are_refused_before_a_query(fake_oracle, with_pool):
    oracle = fake_oracle(10, shape=(1, 8, 6))
    with pytest.raises(PlayerError, match="square ones, got 8x6"):
        S4L().attack(oracle, with_pool())
    assert oracle.requests == []
