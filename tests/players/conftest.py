"""A small oracle that answers at once, and a small game with a real victim."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from agents.base import Kit
from agents.defenders.static import Static
from envs.defences.base import Defence, DeployedDefence
from envs.errors import BudgetExhausted
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.types import Response, ThreatModel, check_images, harden_labels
from envs.victim.victim import Victim

SHAPE = (1, 8, 8)
CLASSES = 4


class FakeOracle:
    """Answers by a function of the images and keeps a ledger.

    `requests` holds the size of every request, `listen` is called with the images of each.
    """

    def __init__(
        self,
        budget: int,
        posteriors: Callable[[Tensor], Tensor] | None = None,
        *,
        shape=SHAPE,
        classes=CLASSES,
        labels="soft",
        listen=lambda images: None,
    ) -> None:
        self.threat = ThreatModel(classes, shape, budget, labels)
        self.remaining = budget
        self.requests: list[int] = []
        self._posteriors = posteriors or (lambda images: torch.full((len(images), classes), 0.25))
        self._listen = listen

    def query(self, images: Tensor) -> Response:
        images = check_images(images, self.threat.image_shape)
        if len(images) > self.remaining:
            raise BudgetExhausted(f"asked for {len(images)} with {self.remaining} left")
        assert not images.requires_grad
        assert 0 <= images.min() <= images.max() <= 1
        self.remaining -= len(images)
        self.requests.append(len(images))
        self._listen(images)
        targets = self._posteriors(images)
        return Response(harden_labels(targets) if self.threat.labels == "hard" else targets)


def network(name: str, seed: int, **params):
    return registry.build(
        name,
        num_classes=CLASSES,
        image_shape=SHAPE,
        generator=Streams(seed).torch("weights"),
        mean=[0.5],
        std=[0.3],
        **params,
    )


def make_kit(seed: int = 0, clone: str = "mlp-small", reports: list | None = None, **params) -> Kit:
    return Kit(
        device=torch.device("cpu"),
        generator=Streams(seed).torch("attacker"),
        new_clone=lambda: network(clone, 100, **params),
        on_report=(lambda values: None) if reports is None else reports.append,
    )


def sharp_victim() -> Victim:
    """A perceptron whose answers are far from uniform, and linear in the image.

    Its hidden units never rest, so that a few thousand images suffice to copy it.
    """
    net = network("mlp-small", 0)
    grey = torch.full((1, *SHAPE), 0.5)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Linear) and module is not net.classifier:
                module.bias.add_(10)
        net.classifier.weight.mul_(20)
        net.classifier.bias.sub_(net(grey)[0])
    return Victim(MultiExit(net, ()))


def make_game(budget: int, labels: str = "soft") -> tuple[ExtractionGame, GameOracle]:
    streams = Streams(0)
    game = ExtractionGame(
        ThreatModel(CLASSES, SHAPE, budget, labels),
        [DeployedDefence("none", Defence(), sharp_victim())],
        Static(),
        clock=make_clock("none", streams),
        streams=streams,
    )
    return game, GameOracle(game)


def agreement(game: ExtractionGame, clone: torch.nn.Module) -> float:
    """Share of noise images on which a clone's label is the victim's."""
    images = torch.rand((500, *SHAPE), generator=Streams(9).torch("probe"))
    with torch.no_grad():
        guesses = clone.eval()(images).argmax(1)
    truth = game.deployed_defences[0].victim.posteriors(images).argmax(1)
    return float((guesses == truth).float().mean())


@pytest.fixture
def fake_oracle():
    return FakeOracle


@pytest.fixture
def kit():
    return make_kit


@pytest.fixture
def game():
    return make_game


@pytest.fixture
def agrees():
    return agreement
