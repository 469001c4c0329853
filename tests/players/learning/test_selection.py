"""Images are chosen by a clone as worked out by hand on three classes."""

import pytest
import torch
from torch import nn

from agents.learning.selection import boundary_distances, entropies, farthest_first

# the clone's posteriors of four images, and of one that was asked
ROWS = torch.tensor([
    [0.50, 0.30, 0.20],
    [0.90, 0.05, 0.05],
    [0.40, 0.35, 0.25],
    [0.05, 0.90, 0.05],
])  # fmt: skip
ASKED = torch.tensor([[0.8, 0.1, 0.1]])


def test_entropies_are_those_worked_by_hand():
    assert entropies(ROWS).tolist() == pytest.approx([1.0297, 0.3944, 1.0805, 0.3944], abs=1e-3)
    assert entropies(torch.eye(3)).tolist() == [0, 0, 0]


def test_farthest_first_goes_on_from_what_it_chose():
    # from the centre .374, .122, .495, 1.098; from D then .755, 1.202, .652, 0
    assert farthest_first(ROWS, ASKED, 1).tolist() == [3]
    assert farthest_first(ROWS, ASKED, 2).tolist() == [3, 2]
    assert farthest_first(ROWS, ASKED, 4).sort().values.tolist() == [0, 1, 2, 3]


def test_farthest_first_never_chooses_a_place_twice():
    alike = torch.ones(5, 3) / 3
    assert farthest_first(alike, alike, 5).sort().values.tolist() == [0, 1, 2, 3, 4]
    assert farthest_first(alike, alike, 0).tolist() == []


def linear(rows):
    layer = nn.Linear(2, len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return nn.Sequential(nn.Flatten(), layer)


def test_deepfool_steps_over_the_nearest_boundary():
    clone = linear([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    image = torch.tensor([[[[0.9, 0.3]]]])
    # class 0 by .6 over class 1 (gradient of length sqrt 2, .424 away) and 2.1 over class 2 (2.236,
    # .939 away): the step is (-.3, +.3), and one per cent longer
    (moved,) = boundary_distances(clone, image)
    assert float(moved) == pytest.approx(2 * (0.3 * 1.01) ** 2, rel=1e-4)


def test_deepfool_moves_every_image_of_a_batch_for_itself_and_leaves_flags_alone():
    clone = linear([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]).train()
    images = torch.tensor([[[[0.9, 0.3]]], [[[0.5, 0.6]]], [[[0.2, 0.9]]]])
    together = boundary_distances(clone, images)
    alone = torch.cat([boundary_distances(clone, one[None]) for one in images])
    assert torch.allclose(together, alone)
    assert together.argsort().tolist() == [1, 0, 2]
    assert clone.training
    assert all(weights.grad is None for weights in clone.parameters())
