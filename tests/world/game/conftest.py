"""What tests of the game share."""

import pytest
import torch

from envs.game.rounds import Countermeasure
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.victim.victim import Victim


@pytest.fixture(scope="module")
def victim():
    """A small victim of 10 classes that was not trained."""
    network = registry.build("mlp-small", num_classes=10, image_shape=(1, 8, 8),
                             generator=torch.Generator().manual_seed(0))  # fmt: skip
    return Victim(MultiExit(network, ()))


class Watching:
    """A defender that can be told to do something before it answers."""

    def __init__(self):
        self.before, self.clients = lambda: None, []

    def act(self, view):
        self.clients.append(view.client)
        self.before()
        return Countermeasure()

    def learn(self, served):
        pass


@pytest.fixture
def defender():
    return Watching()
