"""A body learns other images' classes, and the clone's own last layer stays as it was."""

import pytest
import torch
from torch import nn

from agents.attackers.s4l import S4L
from agents.learning.features import features_of
from agents.learning.pretraining import pretrain
from envs.data.images import ImageSet
from envs.errors import PlayerError
from envs.seeding import Streams
from envs.training.recipes import Recipe


def striped(count=80):
    """Two classes that any network tells apart: bright above or bright below."""
    labels = torch.arange(count) % 2
    pixels = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    pixels[labels == 0, :, :4] = 200
    pixels[labels == 1, :, 4:] = 200
    noise = torch.randint(50, pixels.shape, generator=Streams(3).torch("noise"))
    return ImageSet(pixels + noise.to(torch.uint8), labels, 2, "striped", ("above", "below"))


def apart(clone, images):
    """Distance of the classes' mean features over the spread within them."""
    features = features_of(clone, images.pixels)
    means = [features[images.labels == k].mean(0) for k in range(2)]
    spread = torch.cat([features[images.labels == k] - means[k] for k in range(2)]).norm(dim=1)
    return float((means[0] - means[1]).norm() / spread.mean())


def test_the_body_learns_and_the_last_layer_stays(kit):
    clone, images = kit().new_clone(), striped()
    before, last = apart(clone, images), clone.classifier.weight.clone()
    report = pretrain(clone, images, Recipe(epochs=6, batch=20, learning_rate=0.05), seed=0)
    assert report.train_loss[-1] < 0.5 * report.train_loss[0]
    assert apart(clone, images) > 1.5 * before
    assert torch.equal(clone.classifier.weight, last)


def test_an_attacker_of_rounds_starts_from_it_and_pays_nothing(fake_oracle, kit):
    oracle, lent = fake_oracle(20), kit()
    object.__setattr__(lent, "surrogate_pool", striped())
    thief = S4L(pretraining=4, epochs=0)
    thief.attack(oracle, lent)
    plain = S4L(epochs=0)
    plain.attack(fake_oracle(20), lent)
    assert oracle.remaining == 0
    assert apart(thief.clone, striped()) > apart(plain.clone, striped())


def test_what_cannot_be_pretrained_is_refused(fake_oracle, kit):
    images, oracle, lent = striped(), fake_oracle(20), kit()
    one = ImageSet(images.pixels, torch.zeros(80, dtype=torch.int64), 1, "plain", ("0",))
    object.__setattr__(lent, "surrogate_pool", one)
    with pytest.raises(PlayerError, match="'plain' has one"):
        S4L(pretraining=1).attack(oracle, lent)
    assert oracle.requests == []
    with pytest.raises(PlayerError, match="it has none"):
        pretrain(nn.Flatten(), images, Recipe(epochs=1), seed=0)
