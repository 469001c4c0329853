"""DecoyFilter drops what follows the rule for noise; Relabelled turns a finished clone round."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.decoy_filter import DecoyFilter
from agents.attackers.relabelling import Relabelled, TurnedClone
from agents.oracle_wrappers.inversion import Turn
from envs.data.images import ImageSet
from envs.errors import PlayerError, ScenarioError
from envs.seeding import Streams

ORDER = torch.tensor([2, 0, 3, 1])


def posteriors(images):
    quarters = images.reshape(len(images), 4, -1).mean(2)
    return (20 * quarters).softmax(1)


def labelled(classes=4, count=200):
    """Images whose class is the brightest quarter."""
    stream = Streams(0).torch("pool")
    pixels = torch.randint(256, (count, 1, 8, 8), generator=stream).to(torch.uint8)
    labels = posteriors(pixels / 255).argmax(1) % classes
    return ImageSet(pixels, labels, classes, "own", tuple(str(k) for k in range(classes)))


def darkened(images):
    """Images of the pool are dark in all their last rows; noise is not."""
    return images[:, :, 6:].amax((1, 2, 3)) < 0.02


def gated(images):
    """A victim with decoys: class 3 for whatever is not of the pool's kind, and for some of it."""
    decoy = ~darkened(images) | (images[:, 0, 0, 0] > 0.5)
    answers = posteriors(images)
    answers[decoy] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    return answers


@pytest.fixture
def pool():
    pixels = torch.randint(256, (400, 1, 8, 8), generator=Streams(0).torch("pool"))
    pixels[:, :, 6:] = 0
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    return ImageSet(pixels.to(torch.uint8), labels, 1, "dark", ("dark",))


def test_answers_that_noise_would_get_too_are_dropped(fake_oracle, kit, pool):
    told = {}
    lent = replace(kit(), surrogate_pool=pool, on_report=told.update)
    oracle = fake_oracle(800, gated)
    DecoyFilter(share=0.5, epochs=2).attack(oracle, lent)
    answers = gated(pool.images()).argmax(1)
    assert told["kept"] == pytest.approx(float((answers != 3).float().mean()), abs=0.05)
    assert oracle.remaining == 0


def test_where_noise_gets_all_answers_there_is_nothing_to_drop(fake_oracle, kit, pool):
    told = {}
    lent = replace(kit(), surrogate_pool=pool, on_report=told.update)
    constant = torch.tensor([0.0, 1.0, 0.0, 0.0])
    attacker = DecoyFilter(share=0.5, epochs=1)
    attacker.attack(fake_oracle(400, lambda images: constant.repeat(len(images), 1)), lent)
    assert told["kept"] == 0
    assert attacker.clone is not None


@pytest.mark.parametrize("budget", [1, 2, 7])
def test_any_budget_is_spent(fake_oracle, kit, pool, budget):
    oracle = fake_oracle(budget, gated)
    DecoyFilter(epochs=1).attack(oracle, replace(kit(), surrogate_pool=pool))
    assert oracle.remaining == 0


def test_half_of_the_noise_is_of_an_untrained_generator(fake_oracle, kit):
    pixels = DecoyFilter(request=64)._noise(fake_oracle(10), kit(), 301)
    assert pixels.shape == (301, 1, 8, 8)
    # uniform pixels deviate by 74 of 255, and no two are alike in all 301 images
    assert pixels[:151].float().std() == pytest.approx(73.9, rel=0.02)
    assert pixels[151:].float().std() != pytest.approx(73.9, rel=0.02)


@pytest.mark.parametrize("params", [{"share": 0.0}, {"share": 1.0}, {"request": 0}])
def test_wrong_shares_are_refused(params):
    with pytest.raises(ScenarioError, match="expected a share"):
        DecoyFilter(**params)


def test_a_clone_with_its_classes_exchanged_is_turned_round(fake_oracle, kit):
    oracle = fake_oracle(1_500, lambda images: posteriors(images)[:, ORDER])
    attacker = Relabelled(labelled=100, batch=10, generator_steps=0, clone_steps=50)
    own = labelled()
    attacker.attack(oracle, replace(kit(), surrogate_pool=own))
    assert attacker.turn.name == "relabelled"
    images = own.images()
    plain = attacker.trainer.clone(images).argmax(1) == own.labels
    turned = attacker.clone(images).argmax(1) == own.labels
    assert float(turned.float().mean()) > float(plain.float().mean()) + 0.3


def test_a_clone_that_is_right_stays_as_it_is(fake_oracle, kit):
    attacker = Relabelled(labelled=100, batch=10, generator_steps=0, clone_steps=50)
    attacker.attack(fake_oracle(1_500, posteriors), replace(kit(), surrogate_pool=labelled()))
    assert attacker.turn.name == "none"
    assert attacker.clone is attacker.trainer.clone


def test_a_turned_clone_exchanges_its_classes():
    clone = TurnedClone(torch.nn.Flatten(), Turn("relabelled", ORDER))
    assert clone(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])).tolist() == [[3.0, 1.0, 4.0, 2.0]]


def test_labelled_images_must_have_the_victims_classes(fake_oracle, kit):
    with pytest.raises(PlayerError, match="4 classes"):
        Relabelled().attack(
            fake_oracle(100, posteriors), replace(kit(), surrogate_pool=labelled(3))
        )


@pytest.mark.parametrize("params", [{"labelled": 1}, {"sigmas": -1.0}])
def test_wrong_numbers_of_labelled_images_are_refused(params):
    with pytest.raises(ScenarioError, match="labelled images"):
        Relabelled(**params)
