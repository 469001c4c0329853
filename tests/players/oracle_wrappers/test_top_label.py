"""What an attacker is told that keeps the label of each answer alone."""

from dataclasses import replace

import torch

from agents.attackers.knockoff import Knockoff
from agents.attackers.s4l import S4L
from agents.attackers.wrapped import Wrapped
from agents.oracle_wrappers.top_label import TopLabel
from envs.data.images import ImageSet


def unsure(images):
    quarters = images.reshape(len(images), 4, -1).mean(2)
    return (20 * quarters).softmax(1)


def pool(count=60):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, 1, 8, 8), generator=generator).to(torch.uint8)
    return ImageSet(pixels, torch.zeros(count, dtype=torch.int64), 4, "own", tuple("abcd"))


def test_answers_are_one_hot_on_their_top_class_and_cost_what_they_did(fake_oracle, kit):
    inner = fake_oracle(100, unsure)
    oracle = TopLabel().wrap(inner, kit())
    images = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    told = oracle.query(images).posteriors
    assert (told.sum(1) == 1).all()
    assert (told.amax(1) == 1).all()
    assert torch.equal(told.argmax(1), unsure(images).argmax(1))
    assert (inner.threat.labels, oracle.threat.labels) == ("soft", "hard")
    assert oracle.remaining == inner.remaining == 70


def test_knockoff_behind_it_is_knockoff_on_the_argmax(fake_oracle, kit):
    options = {"epochs": 2, "request": 20}
    one = Wrapped(Knockoff(**options), [TopLabel()])
    other = Knockoff(answers="argmax", **options)
    for attacker in (one, other):
        attacker.attack(fake_oracle(60, unsure), replace(kit(), surrogate_pool=pool()))
    pairs = zip(one.clone.parameters(), other.clone.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_an_attacker_that_takes_whatever_it_is_told_learns_labels(fake_oracle, kit):
    soft, hard = S4L(weight=0.0, epochs=2), S4L(weight=0.0, epochs=2)
    soft.attack(fake_oracle(60, unsure), replace(kit(), surrogate_pool=pool()))
    Wrapped(hard, [TopLabel()]).attack(
        fake_oracle(60, unsure), replace(kit(), surrogate_pool=pool())
    )
    told = hard.answers.posteriors
    assert torch.equal(told, soft.answers.posteriors.argmax(1, keepdim=True) == torch.arange(4))
