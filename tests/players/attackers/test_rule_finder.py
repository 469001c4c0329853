"""RuleFinder fits the family that decoys come from, and drops answers that a rule explains."""

import math

import pytest
import torch

from agents.attackers.rule_finder import RuleFinder, kept, neighbours
from agents.learning.decoy_rules import Coordinates, Explained, SectorRules, explain
from agents.learning.transfer_set import TransferSet
from envs.data.images import ImageSet
from envs.defences.decoy import Decoy
from envs.errors import ScenarioError
from envs.seeding import Streams

LIGHT = {"epochs": 1, "steps": 20, "request": 20}


def stream(name):
    return Streams(3).torch(name)


def test_a_rule_gives_the_class_whose_direction_is_nearest_in_angle():
    rules = SectorRules(1, 2, 4, stream("rules"))
    with torch.no_grad():
        rules.projections.copy_(torch.eye(2)[None])
        rules.directions.copy_(torch.tensor([[[1.0, 0], [0, 1], [-1, 0], [0, -1]]]))
        rules.sharpness.fill_(3.0)
    told = rules(torch.tensor([[5.0, 1.0], [0.0, 0.1], [-2.0, -2.0]]))[0]
    assert told.argmax(1)[:2].tolist() == [0, 1]
    # cosines of (-2, -2) to the four: -1, -1, 1, 1 over the root of 2
    weights = [math.exp(3 * c / math.sqrt(2)) for c in (-1, -1, 1, 1)]
    expected = [math.log(one / sum(weights)) for one in weights]
    assert told[2].tolist() == pytest.approx(expected, rel=1e-5)


def own_images(count=600, classes=4):
    pixels = torch.randint(256, (count, 1, 8, 8), generator=stream("own")).to(torch.uint8)
    names = tuple(map(str, range(classes)))
    return ImageSet(pixels, torch.arange(count) % classes, classes, "own", names)


@pytest.fixture(scope="module")
def explained():
    """Dark images are answered by the defence's own decoy, bright ones by the brightest quarter."""
    images = torch.rand((2000, 1, 8, 8), generator=stream("images"))
    early = torch.arange(2000) % 2 == 0
    images[early] *= 0.7
    decoy = Decoy(own_images(), Streams(8), name="exit 0").classes(images)
    network = (20 * images.reshape(2000, 4, -1).mean(2)).softmax(1)
    labels = torch.where(early, decoy, network.argmax(1))
    points = Coordinates(images, most=64)(images)
    found = explain(
        points, labels, network, seen=images.mean((1, 2, 3))[:, None] * 10,
        decoys=0, rules=1, steps=600, generator=stream("fit"),
    )  # fmt: skip
    return found, early


def test_decoys_are_told_from_answers_of_the_network(explained):
    found, early = explained
    genuine = found.shares[:, -1] > 0.5
    assert float((genuine == ~early).float().mean()) > 0.9


def test_shares_are_probabilities(explained):
    found, _ = explained
    assert found.shares.shape == (2000, 2)
    assert torch.allclose(found.shares.sum(1), torch.ones(2000), atol=1e-4)


def test_probable_decoys_are_dropped():
    answers = TransferSet(torch.arange(4).view(4, 1, 1, 1), torch.eye(4))
    shares = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.0, 1.0]])
    found = Explained(shares, 0.0)
    assert kept(answers, found, 0.5).pixels.flatten().tolist() == [1, 3]
    assert kept(answers, found, 0.7).pixels.flatten().tolist() == [1, 2, 3]


def test_where_all_are_decoys_there_is_nothing_to_drop():
    answers = TransferSet(torch.arange(4).view(4, 1, 1, 1), torch.eye(4))
    shares = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    assert len(kept(answers, Explained(shares, 0.0), 0.5)) == 4


def test_neighbours_differ_as_the_images_do():
    """Images differ in their first value alone, by a deviation of 0.2."""
    images = torch.full((100, 1, 2, 2), 0.5)
    images[::2, 0, 0, 0], images[1::2, 0, 0, 0] = 0.3, 0.7
    near = neighbours(images, torch.zeros(4000, dtype=torch.int64), 0.5, stream("near"))
    assert torch.equal(near[:, 0, 1], images[:1, 0, 1].expand(4000, 2))
    moves = near[:, 0, 0, 0] - 0.3
    assert float(moves.std()) == pytest.approx(0.1, rel=0.1)
    assert float(moves.mean()) == pytest.approx(0.0, abs=0.01)


def test_the_rest_of_the_budget_goes_near_trusted_images(
    fake_oracle, posteriors, with_pool, monkeypatch
):
    """Of the first part the first image alone is trusted."""

    def found(self):
        genuine = torch.zeros(len(self.answers))
        genuine[0] = 1.0
        return Explained(torch.stack([1 - genuine, genuine], 1), 0.0)

    monkeypatch.setattr(RuleFinder, "_explained", found)
    asked = []
    oracle = fake_oracle(60, posteriors, listen=asked.append)
    RuleFinder(**LIGHT, blends=0.0, first_share=0.5, reach=0.01).attack(oracle, with_pool())
    images = torch.cat(asked)
    distances = torch.cdist(images[30:].flatten(1), images[:30].flatten(1))
    assert distances.argmin(1).tolist() == [0] * 30


@pytest.mark.parametrize("reach", [0.0, 0.2])
def test_any_budget_is_spent(fake_oracle, posteriors, with_pool, reach):
    for budget in (1, 2, 7, 130):
        oracle = fake_oracle(budget, posteriors)
        attacker = RuleFinder(**LIGHT, reach=reach)
        attacker.attack(oracle, with_pool())
        assert oracle.remaining == 0
        assert attacker.clone is not None


def test_a_first_share_of_nothing_is_refused():
    with pytest.raises(ScenarioError, match="above blends"):
        RuleFinder(first_share=0.05)
