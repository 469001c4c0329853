"""Two students and a generator that drives them apart; it asks the victim nothing."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.attackers.dfme import DFME
from agents.base import Kit
from agents.learning.clone import Loss
from agents.learning.ensemble import Committee, apart
from agents.learning.schedules import Settings
from agents.learning.weight_averages import Averages
from envs.errors import ScenarioError
from envs.oracle import Oracle
from envs.ranges import Count, Factor, Positive


class DualStudents(DFME):
    """The attack of two students, with soft or hard labels.

    The generator raises the l1 distance of the students' logits, which stands for their distance
    from the victim and has a gradient. So an iteration costs the students' batches alone, five
    sevenths of DFME's. The clone that is handed in is the running average of the first student.

    Args:
        batch: images per request.
        clone_steps: of one iteration.
        generator_rate: Adam's learning rate.
        clone_rate: of the students' SGD; three times DFME's for the image size if absent.
        averaging: decay of the running average, taken every ten iterations; 0 hands the first
            student in as it is.
        epoch_length: iterations per epoch.
        loss: "auto" is l1 on recovered logits for soft labels, cross-entropy for hard ones.

    Notes:
        As in the released code, images to ask come from the generator in evaluation mode, and
        the running average of the first student is evaluated, while training goes on with the
        students themselves. Ours differs in the first ten averages, which are plain means, and
        in one average more at the end: short games would hand in what the student was at first.

    Source:
        Beetham et al. 2023, Dual student networks for data-free model stealing, ICLR, and its
        released code.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    settled: ClassVar[bool] = True
    _EVERY = 10

    def __init__(
        self,
        *,
        batch: Count | None = None,
        clone_steps: Count | None = None,
        generator_rate: Positive | None = None,
        clone_rate: Positive | None = None,
        averaging: Factor = 0.9,
        epoch_length: Count | None = None,
        loss: Loss = "auto",
    ) -> None:
        if not 0 <= averaging < 1:
            raise ScenarioError(f"expected averaging in [0, 1), got {averaging}")
        super().__init__(
            batch=batch,
            generator_steps=1,
            clone_steps=clone_steps,
            generator_rate=generator_rate,
            clone_rate=clone_rate,
            epoch_length=epoch_length,
            loss=loss,
        )
        self._averaging, self._rate = averaging, clone_rate

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Build two students, the generator, and the average that starts at the first one."""
        if self._rate is None:
            small = min(oracle.threat.image_shape[1:]) < 15
            self._overrides["clone_rate"] = 0.15 if small else 0.3
        super().prepare(oracle, kit)
        self._students = self._trained()
        self._average = Averages(self._students.members[0], [self._averaging])
        self._steps = self._follows = 0
        self.clone = self._average.networks[0].eval()

    def iteration_cost(self, settings: Settings) -> int:
        """Return the images of the clone steps: the generator's step asks nothing."""
        return settings.batch * settings.clone_steps

    def build_clone(self, kit: Kit) -> nn.Module:
        """Return a committee of two students."""
        return Committee.of(kit.new_clone, 2)

    def generator_step(self, oracle: Oracle, kit: Kit) -> None:
        """Move the generator towards images on which the students differ."""
        network = self.synthesiser.network
        images = network(network.draw(self.settings.batch, kit.generator))
        distance = apart(self._students.eval().each(images)).mean()
        self.synthesiser.descend(-distance)
        self.note("clones_apart", distance.detach())

    def learn(self, images: Tensor, targets: Tensor) -> Tensor:
        """Train both students; every tenth iteration the average follows."""
        students = self._students

        def loss() -> Tensor:
            each = [self.disagreement(logits, targets).mean() for logits in students.each(images)]
            return torch.stack(each).sum()

        both = self.trainer.descend(loss, count=len(images))
        self._steps += 1
        if self._steps % (self._EVERY * self.settings.clone_steps) == 0:
            self._follow()
        return both / len(students.members)

    def finish(self, oracle: Oracle, kit: Kit) -> None:
        """Let the average follow once more."""
        super().finish(oracle, kit)
        self._follow()

    def _follow(self) -> None:
        """Move the average; the first ones are plain means, or a short game would see its start."""
        self._average.update(at_most=self._follows / (self._follows + 1))
        self._follows += 1

    def _trained(self) -> Committee:
        assert isinstance(self.trainer.clone, Committee)
        return self.trainer.clone
