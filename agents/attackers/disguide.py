"""Two clones and a generator that looks for what divides them; it asks the victim nothing."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.attackers.dfme import DFME
from agents.base import Kit
from agents.learning.clone import Loss
from agents.learning.ensemble import Committee, disputed, diversity
from agents.learning.replay_buffer import Replay
from agents.learning.schedules import Settings
from envs.errors import ScenarioError
from envs.oracle import Oracle
from envs.ranges import Amount, Count, Natural, Positive

_GREY_EVERY = 8


class DisGUIDE(DFME):
    """The disagreement-guided attack, with soft or hard labels.

    The generator descends -(mean deviation of the clones' posteriors) + weight * (negative
    entropy of their mean): a white-box loss, so that every query trains the clones. Answers are
    learned from again out of a replay buffer. The clone that is handed in answers by the mean
    posterior of the two.

    Args:
        batch: images per request.
        generator_rate: Adam's learning rate.
        clone_rate: of the clones' SGD.
        diversity: weight of the entropy term; 0.2 below 100 classes and 0.04 from there, if
            absent.
        replays: batches learned again after each new one.
        capacity: images of the replay buffer, at most.
        grey: make every eighth image of a batch grey, in the generator's step as when asking.
        epoch_length: iterations per epoch.
        loss: "auto" is l1 on recovered logits for soft labels, cross-entropy for hard ones.

    Notes:
        As in the released code, images to ask come from the generator in evaluation mode, and a
        grey image shows one of its channels, drawn for each batch, in all of them. Ours differs
        in the replay buffer, which holds 8-bit images and is drawn from with replacement; in
        epochs, which are DFME's 50 iterations where the released code has 150; and in rates,
        which fall before the epoch of a milestone, as DFME's do, and not after it, but never
        before the first: games of two epochs would begin at a tenth of them. Published
        rates (clone 0.03, generator 1e-4) are for batches of 256 at 32 pixels; 8x8 images take
        DFME's generator rate for their size and half of the published clone rate.

    Source:
        Rosenthal et al. 2023, DisGUIDE: disagreement-guided data-free model extraction, AAAI,
        and its released code.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    settled: ClassVar[bool] = True

    def __init__(
        self,
        *,
        batch: Count | None = None,
        generator_rate: Positive | None = None,
        clone_rate: Positive | None = None,
        diversity: Amount | None = None,
        replays: Natural = 3,
        capacity: Count = 1_000_000,
        grey: bool = True,
        epoch_length: Count | None = None,
        loss: Loss = "auto",
    ) -> None:
        if replays < 0 or capacity < 1:
            raise ScenarioError(
                f"expected replays of at least 0 and capacity of at least 1, "
                f"got {replays} and {capacity}"
            )
        super().__init__(
            batch=batch,
            generator_steps=1,
            clone_steps=1,
            generator_rate=generator_rate,
            clone_rate=clone_rate,
            milestones=(0.4, 0.8),
            epoch_length=epoch_length,
            loss=loss,
        )
        self._diversity, self._replays = diversity, replays
        self._capacity, self._grey, self._rate = capacity, grey, clone_rate

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Build two clones, the generator and an empty replay buffer."""
        threat = oracle.threat
        if self._rate is None:
            # 0.03 at 32 pixels, and as much less than DFME's rate for smaller images
            side = min(threat.image_shape[1:])
            self._overrides["clone_rate"] = 0.03 if side >= 15 else 0.03 * 0.05 / 0.1
        super().prepare(oracle, kit)
        if self._diversity is None:
            self._weight = 0.2 if threat.num_classes < 100 else 0.04
        else:
            self._weight = self._diversity
        # a request is kept whole
        capacity = max(self.settings.batch, min(self._capacity, oracle.remaining))
        self._replay = Replay(
            capacity, threat.image_shape, num_classes=threat.num_classes, device=kit.device
        )
        self._chance = kit.generator

    def iteration_cost(self, settings: Settings) -> int:
        """Return the images of one clone step: the generator's step asks nothing."""
        return settings.batch

    def build_clone(self, kit: Kit) -> nn.Module:
        """Return a committee of two clones."""
        return Committee.of(kit.new_clone, 2)

    def generator_step(self, oracle: Oracle, kit: Kit) -> None:
        """Move the generator towards images that divide the clones, of all classes."""
        committee = self._committee().eval()
        network = self.synthesiser.network
        images = self._shown(network(network.draw(self.settings.batch, kit.generator)))
        logits = committee.each(images)
        disagreement = disputed(logits).mean()
        one_sided = diversity(committee.mean_logits(logits))
        self.synthesiser.descend(self._weight * one_sided - disagreement)
        self.note("clones_apart", disagreement.detach())

    def fresh_images(self, count: int) -> Tensor:
        """Draw images, an eighth of them grey."""
        return self._shown(super().fresh_images(count))

    def _shown(self, images: Tensor) -> Tensor:
        return greyed(images, self._chance) if self._grey else images

    def learn(self, images: Tensor, targets: Tensor) -> Tensor:
        """Train both clones on new answers and then on replayed ones; the new ones' loss."""
        loss = self._step(images, targets)
        self._replay.add(images, targets)
        for _ in range(self._replays):
            self._step(*self._replay.draw(self.settings.batch, self._chance))
        return loss

    def _step(self, images: Tensor, targets: Tensor) -> Tensor:
        committee = self._committee()

        def loss() -> Tensor:
            each = [self.disagreement(logits, targets).mean() for logits in committee.each(images)]
            return torch.stack(each).sum()

        return self.trainer.descend(loss, count=len(images)) / len(committee.members)

    def _committee(self) -> Committee:
        assert isinstance(self.clone, Committee)
        return self.clone


def greyed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Make every eighth image grey: one channel, drawn for the whole batch, shows in all.

    Args:
        images: (n, c, h, w); those of a single channel stay as they are.
        generator: draws the channel, on the images' device.

    Returns:
        (n, c, h, w); gradients of a grey image reach the drawn channel through itself alone.

    Source:
        The released code of Rosenthal et al. 2023.
    """
    channels = images.shape[1]
    if channels == 1:
        return images
    drawn = torch.randint(channels, (1,), generator=generator, device=generator.device)
    chosen = images[::_GREY_EVERY]
    itself = (torch.arange(channels, device=drawn.device) == drawn).view(-1, 1, 1)
    shown = images.clone()
    shown[::_GREY_EVERY] = torch.where(itself, chosen, chosen.detach().index_select(1, drawn))
    return shown
