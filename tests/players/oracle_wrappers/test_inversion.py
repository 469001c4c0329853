"""Inversion: answers that are systematically wrong are found out and turned round."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.dfme import DFME
from agents.attackers.wrapped import Wrapped
from agents.oracle_wrappers.inversion import Inversion, reading, reverse_ranks
from envs.data.images import ImageSet
from envs.errors import PlayerError
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
    names = tuple(str(k) for k in range(classes))
    return ImageSet(pixels, labels, classes, "own", names)


def relabelled(images):
    return posteriors(images)[:, ORDER]


WORLDS = {
    "none": posteriors,
    "reversed": lambda images: reverse_ranks(posteriors(images)),
    "relabelled": relabelled,
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_reading_that_is_right_is_found(fake_oracle, kit, name):
    oracle = fake_oracle(1_500, WORLDS[name])
    wrapper = Inversion()
    attacker = Wrapped(DFME(batch=10, generator_steps=0, clone_steps=50), [wrapper])
    attacker.attack(oracle, replace(kit(), surrogate_pool=labelled()))
    assert wrapper.turn.name == name
    assert oracle.requests[0] == 100
    assert oracle.remaining == 0
    images = torch.rand(50, 1, 8, 8, generator=Streams(1).torch("images"))
    turned = wrapper.turn.restore(WORLDS[name](images))
    assert torch.equal(turned.argmax(1), posteriors(images).argmax(1))


def test_the_clone_learns_the_turned_answers(fake_oracle, kit):
    learned = []

    class Watched(DFME):
        def learn(self, images, targets):
            learned.append(torch.equal(targets.argmax(1), posteriors(images).argmax(1)))
            return super().learn(images, targets)

    attacker = Wrapped(Watched(batch=10, generator_steps=0), [Inversion()])
    attacker.attack(fake_oracle(1_200, relabelled), replace(kit(), surrogate_pool=labelled()))
    assert len(learned) > 50
    assert all(learned)


def test_answers_that_are_merely_noise_are_left_alone():
    stream = Streams(2).torch("noise")
    for _ in range(20):
        answers = torch.rand(100, 10, generator=stream).softmax(1)
        labels = torch.randint(10, (100,), generator=stream)
        assert reading(answers, labels, sigmas=3.0).name == "none"


def test_two_lucky_images_prove_nothing():
    answers = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    assert reading(answers, torch.tensor([1, 0]), sigmas=3.0).name == "none"


def test_reversing_twice_changes_nothing():
    answers = torch.rand(30, 6, generator=Streams(3).torch("answers")).softmax(1)
    assert torch.equal(reverse_ranks(reverse_ranks(answers)), answers)
    assert torch.equal(reverse_ranks(answers).argmax(1), answers.argmin(1))


def test_a_pool_of_other_classes_is_refused(fake_oracle, kit):
    wrapper = Inversion()
    other = replace(kit(), surrogate_pool=labelled(classes=3))
    with pytest.raises(PlayerError, match="victim's 4 classes, and the pool 'own' has 3"):
        wrapper.wrap(fake_oracle(1_000), other)
