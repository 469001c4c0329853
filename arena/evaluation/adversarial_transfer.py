"""How far adversarial examples that are made on a clone fool the victim."""

import importlib.util
import warnings
from typing import Annotated

import torch
from annotated_types import Gt

from arena.evaluation.clone_metric import CloneMetric, Handed
from envs.errors import ArenaError


class AdversarialTransfer(CloneMetric):
    """Share of adversarial examples made on the clone that fool the undefended victim.

    Of test images that the victim labels right, each is moved by projected gradient ascent on the
    clone's cross-entropy, at most `epsilon` in any pixel; counted are those the victim then labels
    wrong. None where the victim runs elsewhere, or labels no image right.

    Source: Papernot et al., Practical Black-Box Attacks against Machine Learning (2017), section
    2; the attack is that of Madry et al., Towards Deep Learning Models Resistant to Adversarial
    Attacks (2018), as the library foolbox has it (extra `transfer`). Ours differs: it starts at
    the image, not at a random point beside it, so that what noise alone does is not counted.

    Args:
        epsilon: largest change of a pixel, of values in [0, 1].
        steps: gradient steps.
        images: test images to draw; all where there are fewer.

    Raises:
        ArenaError: foolbox is not installed.
    """

    def __init__(
        self,
        epsilon: Annotated[float, Gt(0)] = 8 / 255,
        steps: Annotated[int, Gt(0)] = 10,
        images: Annotated[int, Gt(0)] = 500,
    ) -> None:
        if importlib.util.find_spec("foolbox") is None:
            raise ArenaError("needs the library foolbox; pip install 'fortress-arena[transfer]'")
        self.epsilon, self.steps, self.images = epsilon, steps, images

    def measure(self, handed: Handed) -> float | None:
        """Return a share in [0, 1]."""
        if handed.victim is None:
            return None
        drawn = torch.randperm(len(handed.test), generator=handed.generator)[: self.images]
        drawn = drawn.to(handed.test.labels.device)
        images, labels = handed.test.images(drawn), handed.test.labels[drawn]
        right = handed.victim(images).argmax(1) == labels
        images, labels = images[right], labels[right]
        if len(images) == 0:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library uses names that others deprecate
            from foolbox.attacks import LinfPGD
            from foolbox.models.pytorch import PyTorchModel

            # 2.5 times the straight way in all, as the attack's authors take
            attack = LinfPGD(rel_stepsize=2.5 / self.steps, steps=self.steps, random_start=False)
            model = PyTorchModel(handed.clone, bounds=(0, 1), device=handed.device)
            _, moved, _ = attack(model, images, labels, epsilons=self.epsilon)
        fooled = handed.victim(moved.detach()).argmax(1) != labels
        return fooled.double().mean().item()
