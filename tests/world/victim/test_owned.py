"""What an owner sees of its victim: features of any layer, and a copy that may be trained."""

import pytest
import torch

from arena.http.remote_victim import RemoteVictim
from envs.errors import NotGranted, UnknownName
from envs.exits.rules import FinalOnly
from envs.game.rounds import View
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.victim.owned import TOGETHER, Owned
from envs.victim.victim import Victim

SHAPE = (1, 8, 8)


@pytest.fixture
def victim():
    network = registry.build(
        "conv-small", num_classes=4, image_shape=SHAPE, mean=[0.5], std=[0.3],
        generator=Streams(0).torch("network"),
    )  # fmt: skip
    return Victim(MultiExit(network, ()), rule=FinalOnly())


def images(count):
    return torch.rand(count, *SHAPE, generator=Streams(0).torch("images"))


def test_the_classifier_makes_the_answers_of_the_features(victim):
    asked = images(TOGETHER + 3)
    features = Owned(victim).features(asked)
    logits = victim.network.backbone.classifier(features)
    assert torch.allclose(logits.softmax(1), victim.posteriors(asked), atol=1e-5)
    assert features.shape == (TOGETHER + 3, victim.network.backbone.classifier.in_features)
    assert not features.is_inference()  # a defender may train on them


def test_every_layer_can_be_looked_at_by_name(victim):
    owned, backbone = Owned(victim), victim.network.backbone
    asked = images(3)
    wanted = backbone.stages[0](asked)
    assert torch.equal(owned.features(asked, "stages.0"), wanted)
    assert torch.equal(owned.features(asked, "classifier"), backbone(asked))
    assert {"stages.0", "classifier"} <= set(owned.layers)
    for name in ("stage", "", "stages.9"):
        with pytest.raises(UnknownName, match="no layer of the victim named"):
            owned.features(asked, name)
    assert all(not module._forward_hooks for module in backbone.modules())


def test_what_an_owner_trains_is_a_copy(victim):
    before = [weight.clone() for weight in victim.network.parameters()]
    network = Owned(victim).network()
    asked = images(5)
    assert torch.allclose(network(asked), Owned(victim).features(asked), atol=1e-6)
    network(asked).sum().backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    assert not torch.allclose(network(asked), Owned(victim).features(asked))
    assert all(map(torch.equal, before, victim.network.parameters()))


def test_of_a_victim_elsewhere_nothing_is_seen():
    remote = RemoteVictim(
        None, "elsewhere", num_classes=4, image_shape=SHAPE, labels="soft",
        device=torch.device("cpu"),
    )  # fmt: skip
    for look in (lambda: Owned(remote).features(images(1)), Owned(remote).network,
                 lambda: View(images(1), 1, 0, victim=Owned(remote)).features(),
                 lambda: View(images(1), 1, 0).features()):  # fmt: skip
        with pytest.raises(NotGranted):
            look()


class Counted(Owned):
    runs = 0

    def features(self, images, layer=None):
        self.runs += 1
        return super().features(images, layer)


def test_features_of_a_request_are_computed_once_and_only_if_asked_for(victim):
    owned = Counted(victim)
    view = View(images(3), 1, 0, victim=owned)
    assert view.images.shape[0] == 3
    assert owned.runs == 0
    assert view.features() is view.features()
    view.features("stages.0")
    view.features("stages.0")
    assert owned.runs == 2
