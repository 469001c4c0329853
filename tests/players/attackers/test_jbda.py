"""JBDA moves what it asked along its clone's gradient, towards a label."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from agents.attackers.jbda import JBDA, fall, rise
from envs.data.images import bytes_to_unit
from envs.errors import ScenarioError


def test_both_directions_are_those_worked_by_hand():
    layer = nn.Linear(2, 3, bias=False)
    layer.weight.data = torch.tensor([[1.0, -1.0], [0.0, 1.0], [-1.0, 0.0]])
    clone, image, label = (
        nn.Sequential(nn.Flatten(), layer),
        torch.zeros(1, 1, 1, 2),
        torch.zeros(1),
    )
    assert rise(clone, image, label.long()).flatten().tolist() == [1, -1]
    assert fall(clone, image, label.long()).flatten().tolist() == [1, -1]


def test_a_pixel_without_a_gradient_stays_where_it_is():
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    clone, image = nn.Sequential(nn.Flatten(), layer), torch.full((1, 1, 1, 3), 0.5)
    moved = JBDA()._moved(clone, image, torch.zeros(1).long(), 0.1)
    torch.testing.assert_close(moved.flatten(), torch.tensor([0.6, 0.4, 0.5]))


class Watched(JBDA):
    """Keeps what was made of what, by which clone."""

    def _moved(self, clone, images, labels, reach):
        moved = super()._moved(clone, images, labels, reach)
        self.rounds = [*getattr(self, "rounds", []), (clone, images, labels, moved, reach)]
        return moved


@pytest.mark.parametrize(("variant", "sizes"), [("jbda", [10, 20, 40]), ("t-rnd", [10, 40, 75])])
def test_the_set_grows_by_the_images_that_are_made(
    fake_oracle, posteriors, with_pool, variant, sizes
):
    asked = []
    oracle = fake_oracle(75, posteriors, listen=asked.append)
    thief = Watched(variant=variant, seeds=10, epochs=2, request=80)
    thief.attack(oracle, with_pool())
    grown = torch.tensor([len(images) for images in asked]).cumsum(0).tolist()
    assert grown == (sizes if sizes[-1] == 75 else [*sizes, 75])
    for clone, images, labels, moved, reach in thief.rounds:
        assert float((moved - images).abs().max()) <= reach + 1e-6
        if variant == "jbda":
            rows = torch.arange(len(images))
            gain = clone(moved)[rows, labels] - clone(images)[rows, labels]
            assert bool((gain > 0).all())


def test_t_rnd_moves_towards_labels_drawn_anew(fake_oracle, posteriors, with_pool):
    thief = Watched(variant="t-rnd", seeds=8, epochs=8)
    thief.attack(fake_oracle(32, posteriors), with_pool())
    _, images, _, moved, _ = thief.rounds[0]
    # copies of one image went different ways
    assert not torch.equal(moved[:8], moved[8:16])
    step = (moved - images).abs().amax((1, 2, 3))
    assert float(step.min()) > 0.02


def test_each_step_of_t_rnd_goes_towards_the_label_that_is_drawn_for_it():
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    thief = JBDA(variant="t-rnd")
    thief._oracle = SimpleNamespace(threat=SimpleNamespace(num_classes=2))
    thief._chance = torch.Generator().manual_seed(3)
    clone, image = nn.Sequential(nn.Flatten(), layer), torch.full((1, 1, 1, 2), 0.5)
    moved = thief._moved(clone, image, torch.zeros(1).long(), 0.1)
    labels, away = torch.Generator().manual_seed(3), 0.0
    for _ in range(8):  # steps of 1.85 times the reach in all, within the reach
        towards = 1 - 2 * int(torch.randint(2, (1,), generator=labels))
        away = min(max(away + towards * 1.85 * 0.1 / 8, -0.1), 0.1)
    torch.testing.assert_close(moved.flatten(), torch.tensor([0.5 + away, 0.5 - away]))
    assert away != 0


def test_the_reach_follows_the_size_of_the_images(fake_oracle, posteriors, with_pool):
    thief = Watched(seeds=5, epochs=0)
    thief.attack(fake_oracle(10, posteriors), with_pool())
    assert thief.rounds[0][-1] == 0.1
    given = Watched(seeds=5, epochs=0, reach=0.05)
    given.attack(fake_oracle(10, posteriors), with_pool())
    assert given.rounds[0][-1] == 0.05


def test_labels_of_the_seeds_are_the_victims(fake_oracle, posteriors, with_pool):
    thief = Watched(seeds=5, epochs=0)
    thief.attack(fake_oracle(10, posteriors), with_pool())
    _, images, labels, _, _ = thief.rounds[0]
    assert torch.equal(labels, posteriors(bytes_to_unit(images)).argmax(1))


def test_an_unknown_variant_is_refused():
    with pytest.raises(ScenarioError, match="'jbda' or 't-rnd', got 'tr'"):
        JBDA(variant="tr")
