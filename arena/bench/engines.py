"""How fast the attacks run: queries a second, and DFME's loop against the bare mathematics."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agents.attackers.dfme import DFME
from agents.attackers.dfms_hl import DFMSHL
from agents.attackers.knockoff import Knockoff
from agents.base import Attacker, Kit
from agents.learning.clone import CloneTrainer, l1_on_logits
from agents.learning.generators import Synthesiser
from agents.learning.memory_layout import laid_out
from agents.learning.zeroth_order import unit_directions
from arena.bench.overhead import new_oracle
from arena.bench.subjects import CLASSES, SHAPE, generator, image_set, plain
from arena.bench.timing import Line, interleave, now, ratios, spread
from envs.nets.generators import DfmeGenerator, tanh_to_unit
from envs.types import Labels
from envs.victim.victim import Victim

GROUP = "attacks"
LOOP_TARGET = 1.05
RELEASED_TARGET = 0.85
EPSILON = 1e-3


def measure(
    *, rounds: int = 5, batch: int = 64, width: float = 0.25, budget: int = 1024
) -> list[Line]:
    """Measure DFME's loop, and whole attacks.

    Args:
        rounds: iterations of DFME and of the bare loop, in turn.
        batch: images per step of DFME.
        width: factor on the channels of victim and clone, both ResNet18-8x.
        budget: queries of each whole attack.
    """
    return [*_dfme_loop(rounds, batch, width), *_whole_attacks(batch, width, budget)]


def _kit(width: float) -> Kit:
    return Kit(
        device=torch.device("cpu"),
        generator=generator(3),
        new_clone=lambda: plain("resnet18-8x", width).backbone.train(),
        surrogate_pool=image_set(2048),
    )


def _dfme_loop(rounds: int, batch: int, width: float) -> list[Line]:
    victim, kit = Victim(plain("resnet18-8x", width)), _kit(width)
    attacker = DFME(batch=batch)
    bare, released = BareLoop(victim, kit, batch), ReleasedLoop(victim, kit, batch)
    with new_oracle(victim, 10**9) as oracle:
        attacker.prepare(oracle, kit)

        def iteration() -> None:
            attacker.generator_step(oracle, kit)
            for _ in range(attacker.settings.clone_steps):
                attacker.clone_step(oracle, kit, batch)

        runs = {"bare": bare.iteration, "played": iteration, "released": released.iteration}
        samples = interleave(runs, rounds=rounds)
    loop, seconds = ratios(samples["played"], samples["bare"]), spread(samples["played"])
    steps = ratios(samples["played"], samples["released"])
    asked = attacker.settings.cost
    sizes = f"ResNet18-8x of width {width:g} on itself, batch {batch}, game and log included"
    return [
        Line(GROUP, "DFME's loop to a bare loop of the same passes and steps", loop.median, "x",
             loop.low, loop.high, target=LOOP_TARGET, at_least=False, note=sizes),
        Line(GROUP, "DFME's loop to the steps of its released code", steps.median, "x", steps.low,
             steps.high, target=RELEASED_TARGET, at_least=False, note=sizes),
        Line(GROUP, "DFME", asked / seconds.median, "queries/s", asked / seconds.high,
             asked / seconds.low, note=sizes),
    ]  # fmt: skip


class BareLoop:
    """The forward and backward passes of DFME with its optimisers' steps, and nothing else."""

    def __init__(self, victim: Victim, kit: Kit, batch: int) -> None:
        self._victim, self._batch, self._chance = victim, batch, kit.generator
        self._generator = Synthesiser.fresh(SHAPE, rate=1e-4, generator=kit.generator)
        laid_out(self._generator.network, SHAPE)
        self._clone = CloneTrainer(laid_out(kit.new_clone(), SHAPE), l1_on_logits, rate=0.1)

    def iteration(self) -> None:
        """Move the generator once and the clone five times."""
        self._move_generator()
        for _ in range(5):
            images = self._generator.images(self._batch)
            self._clone.step(images, self._victim.posteriors(images))

    def _move_generator(self) -> None:
        points = self._generator.pre_activations(self._batch)
        clone = self._clone.clone.eval()
        with torch.no_grad():
            steps = unit_directions(1, points, generator=self._chance)
            both = tanh_to_unit(torch.cat((points, points + EPSILON * steps[0])))
            losses = -l1_on_logits(clone(both).double(), self._victim.posteriors(both).double())
            slopes = (losses[self._batch :] - losses[: self._batch]) / EPSILON
            gradient = slopes.float()[:, None, None, None] * steps[0]
        self._generator.descend(points, gradient / self._batch)


class ReleasedLoop:
    """The steps of DFME's released code: torch's optimisers and the victim's network as they come.

    Source:
        Truong et al. 2021, arXiv:2011.14779; github.com/cake-lab/datafree-model-extraction, as of
        0043ec4. Written anew, on the networks of this package.
    """

    def __init__(self, victim: Victim, kit: Kit, batch: int) -> None:
        self._victim, self._batch, self._chance = victim.network, batch, kit.generator
        self._generator = DfmeGenerator(SHAPE, generator=kit.generator).train()
        self._clone = kit.new_clone()
        self._adam = torch.optim.Adam(self._generator.parameters(), lr=1e-4)
        weights = self._clone.parameters()
        self._sgd = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=5e-4)

    def iteration(self) -> None:
        """Move the generator once and the clone five times."""
        self._move_generator()
        self._clone.train()
        for _ in range(5):
            images = self._draw().tanh().detach()
            self._sgd.zero_grad()
            F.l1_loss(self._clone(images), self._targets(images)).backward()
            self._sgd.step()

    def _move_generator(self) -> None:
        self._adam.zero_grad()
        points = self._draw()
        self._clone.eval()
        with torch.no_grad():
            steps = np.random.default_rng(0).standard_normal((self._batch, points[0].numel()))
            steps /= np.sqrt((steps**2).sum(1, keepdims=True))
            unit = torch.from_numpy(steps).float().view_as(points)
            both = torch.stack((points + EPSILON * unit, points), 1).flatten(0, 1).tanh()
            losses = -(self._clone(both) - self._targets(both)).abs().mean(1).view(-1, 2)
            slopes = (losses[:, 0] - losses[:, 1]) / EPSILON * points[0].numel()
            gradient = slopes[:, None, None, None] * unit / (CLASSES * self._batch)
        points.backward(gradient)
        self._adam.step()

    def _draw(self) -> Tensor:
        return self._generator.pre_activation(self._generator.draw(self._batch, self._chance))

    @torch.no_grad()
    def _targets(self, images: Tensor) -> Tensor:
        logs: Tensor = self._victim(images).log_softmax(1)
        return logs - logs.mean(1, keepdim=True)


def _whole_attacks(batch: int, width: float, budget: int) -> list[Line]:
    attacks: dict[str, tuple[Callable[[], Attacker], Labels]] = {
        "DFMS-HL": (lambda: DFMSHL(batch=batch, gan_epochs=1, clone_epochs=1, diversity_epochs=1),
                    "hard"),
        "Knockoff": (lambda: Knockoff(epochs=1), "soft"),
    }  # fmt: skip
    lines = []
    for name, (make, labels) in attacks.items():
        seconds = _play(make(), width, budget, labels)
        note = f"a whole attack of {budget} queries, one epoch of each training"
        lines.append(Line(GROUP, name, budget / seconds, "queries/s", note=note))
    return lines


def _play(attacker: Attacker, width: float, budget: int, labels: Labels) -> float:
    """Return the seconds that an attack takes to spend a budget and to train on the answers."""
    victim, kit = Victim(plain("resnet18-8x", width)), _kit(width)
    with new_oracle(victim, budget, labels=labels) as oracle:
        began = now()
        attacker.attack(oracle, kit)
        return now() - began
