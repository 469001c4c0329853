"""DisGUIDE by the authors' formulas: what its generator descends, what it asks, what it learns."""

import math
from dataclasses import replace

import pytest
import torch

from agents.attackers.disguide import DisGUIDE, greyed
from agents.learning.clone import recover_logits
from envs.seeding import Streams


class Fixed(torch.nn.Module):
    """A clone of three classes that answers every image alike."""

    def __init__(self, *posterior):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(posterior).log())

    def forward(self, images):
        return self.logits + 0 * images.flatten(1).sum(1, keepdim=True)


class Lopsided(torch.nn.Module):
    """A clone that tells quarters of an image apart, and likes the first one best."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.tensor([0.5, 0.0, 0.0, 0.0]))

    def forward(self, images):
        quarters = images.reshape(len(images), 4, -1).mean(2)
        return 20 * quarters + self.bias


def prepared(oracle, kit, clones, **options):
    """A DisGUIDE whose two clones are those given."""
    attacker, left = DisGUIDE(**options), iter(clones)
    attacker.prepare(oracle, replace(kit, new_clone=lambda: next(left)))
    return attacker


def test_the_generator_descends_the_published_loss_of_three_classes(fake_oracle, kit, monkeypatch):
    oracle = fake_oracle(100, classes=3)
    clones = (Fixed(0.6, 0.3, 0.1), Fixed(0.2, 0.3, 0.5))
    attacker, lent = prepared(oracle, kit(), clones, batch=8), kit()
    descended = []
    monkeypatch.setattr(attacker.synthesiser, "descend", lambda loss: descended.append(loss.item()))
    attacker.generator_step(oracle, lent)
    # sample deviations 0.4 / sqrt 2, 0 and 0.4 / sqrt 2; mean posterior 0.4, 0.3, 0.3
    dispute = 2 * 0.4 / math.sqrt(2) / 3
    entropy = -(0.4 * math.log(0.4) + 0.6 * math.log(0.3))
    assert descended == pytest.approx([-dispute - 0.2 * entropy])
    assert float(attacker._seen["clones_apart"][0]) == pytest.approx(dispute, rel=1e-5)


def test_many_classes_weigh_their_diversity_less(fake_oracle, kit):
    oracle = fake_oracle(100, classes=100)
    clones = (Fixed(*[0.01] * 100), Fixed(*[0.01] * 100))
    assert prepared(oracle, kit(), clones)._weight == 0.04


def test_where_clones_agree_the_generator_spreads_its_images_over_their_classes(fake_oracle, kit):
    clones = (Lopsided(), Lopsided())
    attacker = prepared(fake_oracle(10**6), kit(), clones, batch=64, generator_rate=3e-3)
    lent = kit()

    def entropy():
        with torch.no_grad():
            mean = clones[0](attacker.synthesiser.images(400)).softmax(1).mean(0)
        return float(-(mean * mean.log()).sum())

    before = entropy()
    for _ in range(30):
        attacker.generator_step(None, lent)
    assert before < 1.35
    assert before + 0.02 < entropy() <= math.log(4) + 1e-6


def test_a_shift_of_a_clones_logits_costs_as_published(fake_oracle, kit):
    oracle = fake_oracle(100, classes=3)
    attacker = prepared(oracle, kit(), (Fixed(0.6, 0.3, 0.1), Fixed(0.2, 0.3, 0.5)))
    targets = torch.tensor([[0.7, 0.2, 0.1]])
    logits = recover_logits(targets)
    assert float(attacker.disagreement(logits, targets)) == pytest.approx(0, abs=1e-6)
    assert float(attacker.disagreement(logits + 0.5, targets)) == pytest.approx(0.5)


def test_new_and_replayed_answers_draw_both_clones_to_the_victim(fake_oracle, kit):
    def answers(images):
        return torch.tensor([0.7, 0.2, 0.1]).repeat(len(images), 1)

    clones = (Fixed(0.1, 0.3, 0.6), Fixed(0.2, 0.2, 0.6))
    oracle = fake_oracle(2_000, answers, classes=3)
    attacker = prepared(oracle, kit(), clones, batch=20)
    attacker.resume(oracle, kit())
    for clone in clones:
        assert clone.logits.softmax(0).tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.05)


def test_queries_come_from_a_generator_in_evaluation_mode(fake_oracle, kit):
    modes = []
    oracle = fake_oracle(16, listen=lambda images: modes.append("asked"))
    attacker, lent = DisGUIDE(batch=8), kit()
    attacker.prepare(oracle, lent)
    attacker.synthesiser.network.register_forward_pre_hook(
        lambda network, inputs: modes.append(network.training)
    )
    attacker.resume(oracle, lent)
    assert modes == [True, False, "asked"] * 2


def test_a_grey_image_shows_one_drawn_channel_in_all():
    images = torch.rand(17, 3, 2, 2, generator=Streams(0).torch("images")).requires_grad_()
    shown = greyed(images, Streams(1).torch("grey"))
    channel = next(c for c in range(3) if torch.equal(shown[0, 0], images[0, c]))
    for n in range(17):
        expected = images[n, channel].expand(3, 2, 2) if n % 8 == 0 else images[n]
        assert torch.equal(shown[n], expected)
    shown.sum().backward()
    # what a grey image copies has no slope, as in the released code
    slope = torch.zeros(3)
    slope[channel] = 1
    assert torch.equal(images.grad[0, :, 0, 0], slope)
    assert torch.equal(images.grad[1], torch.ones(3, 2, 2))
    assert {int(greyed(images[:1], Streams(s).torch("grey"))[0, 0, 0, 0] == images[0, 0, 0, 0])
            for s in range(12)} == {0, 1}  # fmt: skip


def test_images_of_one_channel_stay_as_they_are_and_draw_nothing():
    images, stream = torch.rand(9, 1, 2, 2), Streams(0).torch("grey")
    before = stream.get_state()
    assert greyed(images, stream) is images
    assert torch.equal(stream.get_state(), before)


class Coloured(torch.nn.Module):
    """A clone of colour images that tells which of them are grey."""

    def __init__(self, seen):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(192, 4), seen

    def forward(self, images):
        self.seen.append([bool((image == image[:1]).all()) for image in images])
        return self.layer(images.flatten(1))


@pytest.mark.parametrize("grey", [True, False])
def test_every_eighth_image_is_grey_for_the_generator_and_for_the_victim(fake_oracle, kit, grey):
    seen, asked = [], []
    oracle = fake_oracle(16, shape=(3, 8, 8), listen=asked.append)
    attacker = prepared(oracle, kit(), [Coloured(seen), Coloured([])], batch=16, grey=grey)
    attacker.generator_step(oracle, kit())
    expected = ([grey] + [False] * 7) * 2
    assert seen == [expected]
    attacker.clone_step(oracle, kit(), 16)
    assert [bool((image == image[:1]).all()) for image in asked[0]] == expected
