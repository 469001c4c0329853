"""Finds out whether answers are systematically wrong, and turns them round."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.base import Kit, OracleWrapper
from agents.learning.transfer_set import branch
from agents.oracle_wrappers.forwarding import Restored
from envs.data.images import ImageSet
from envs.errors import PlayerError, ScenarioError
from envs.oracle import Oracle
from envs.ranges import Count, Positive


class Turn(NamedTuple):
    """How answers are turned round.

    Attributes:
        name: "none", "reversed" or "relabelled".
        order: (K,) the served class that stands for each true one; read by "relabelled" alone.
    """

    name: str
    order: Tensor

    def restore(self, answers: Tensor) -> Tensor:
        """Return the (n, K) answers turned round."""
        if self.name == "reversed":
            return reverse_ranks(answers)
        if self.name == "relabelled":
            return answers[:, self.order.to(answers.device)]
        return answers


class Inversion(OracleWrapper):
    """Checks the answers with a few labelled images and turns them round where they are wrong.

    It asks the labelled images and compares three readings of the answers: as served, with their
    order reversed (the least likely class is the true one), and with classes exchanged by the
    best one-to-one assignment. Another reading than the first is taken only where it is right
    significantly more often on images that were not used to find it. All later answers are then
    turned round so.

    The images come from the scenario's pool, whose classes must be the victim's: name the
    victim's own data set there, with `split = "validation"`. An attacker behind this wrapper
    knows more than a data-free one, by `labelled` images.

    Args:
        labelled: labelled images it holds, at most a tenth of the budget of which are asked.
        sigmas: by so many standard errors another reading must be right more often.

    Notes:
        A defence that answers benign images well and OOD ones wrongly shows nothing here:
        labelled images are benign ones.

    Source:
        No published attack. Answers whose order is wrong are those of Orekondy et al. 2020,
        Prediction poisoning, arXiv:1906.10908, and of Kariyappa and Qureshi 2020, Adaptive
        misinformation, arXiv:1911.07100; the assignment is Kuhn's of 1955.
    """

    requires = frozenset({"soft-labels", "pool"})

    turn: Turn | None = None

    def __init__(self, *, labelled: Count = 100, sigmas: Positive = 3.0) -> None:
        check_labelled(labelled, sigmas)
        self._labelled, self._sigmas = labelled, sigmas

    def wrap(self, oracle: Oracle, kit: Kit) -> Oracle:
        """Check the answers; return an oracle that gives them as they are, or turned round.

        Raises:
            PlayerError: the pool's classes are not the victim's.
        """
        held = self._held(oracle, kit)
        if held is not None:
            answers = oracle.query(held.images()).posteriors.to(kit.device)
            self.turn = reading(answers, held.labels, sigmas=self._sigmas)
            kit.shared_findings["turn"] = self.turn.name
            kit.report(turned_round=float(self.turn.name != "none"))
        return oracle if self.turn is None else Restored(oracle, self.turn.restore)

    def _held(self, oracle: Oracle, kit: Kit) -> ImageSet | None:
        pool = labelled_pool(kit, oracle.threat.num_classes, who="Inversion")
        count = min(self._labelled, len(pool), oracle.remaining // 10)
        return pool.select(torch.arange(count, device=kit.device)) if count >= 2 else None


def check_labelled(labelled: int, sigmas: float) -> None:
    """Check how many labelled images are held, and by how much a reading must be better.

    Raises:
        ScenarioError: fewer than 2 images or a negative number of standard errors.
    """
    if labelled < 2 or sigmas < 0:
        raise ScenarioError(
            f"expected at least 2 labelled images and sigmas of at least 0, "
            f"got {labelled} and {sigmas}"
        )


def labelled_pool(kit: Kit, num_classes: int, *, who: str) -> ImageSet:
    """Return the pool in a random order, as images whose labels are the victim's.

    Raises:
        PlayerError: the pool's classes are not the victim's.
    """
    pool = kit.pool
    if pool.num_classes != num_classes:
        raise PlayerError(
            f"{who} needs labelled images of the victim's {num_classes} classes, and the pool "
            f"'{pool.name}' has {pool.num_classes}; name the victim's own data set as "
            f'threat.pool, with split = "validation"'
        )
    order = torch.randperm(len(pool), generator=branch(kit.generator), device=kit.device)
    return pool.select(order)


def reverse_ranks(answers: Tensor) -> Tensor:
    """Give the least likely class the greatest probability, and so on: (n, K) of (n, K)."""
    values, places = answers.sort(1)
    return torch.zeros_like(answers).scatter(1, places, values.flip(1))


def reading(answers: Tensor, labels: Tensor, *, sigmas: float) -> Turn:
    """Choose how answers to labelled images are to be read.

    Args:
        answers: (n, K) served, n at least 2.
        labels: (n,) true classes.
        sigmas: by so many standard errors another reading than the served one must be better.

    Returns:
        The reading. The assignment of "relabelled" is found on one half of the images and judged
        on the other, and the other way round; the one returned is that of all images.
    """
    even = torch.arange(len(labels), device=labels.device) % 2 == 0
    straight = answers.argmax(1) == labels
    reversed_ = reverse_ranks(answers).argmax(1) == labels
    relabelled = torch.empty_like(straight)
    for half in (even, ~even):
        order = _assignment(answers[half], labels[half])
        relabelled[~half] = answers[~half][:, order].argmax(1) == labels[~half]
    order = _assignment(answers, labels)
    best = Turn("none", order)
    lead = 0.0
    for name, right in (("reversed", reversed_), ("relabelled", relabelled)):
        gain = right.double() - straight.double()  # paired, image by image
        # a few images that all agree prove less than their spread of 0 says
        error = max(float(gain.std(unbiased=False)), 0.5) / len(labels) ** 0.5
        mean = float(gain.mean())
        if mean > sigmas * error and mean > lead:
            best, lead = Turn(name, order), mean
    return best


def _assignment(answers: Tensor, labels: Tensor) -> Tensor:
    """Return the (K,) served class for each true one with the greatest total probability."""
    classes = answers.shape[1]
    mass = torch.zeros(classes, classes, dtype=torch.float64, device=answers.device)
    mass.index_add_(0, labels, answers.double())
    # a class without an image keeps its own, if it is free
    mass += 1e-9 * torch.eye(classes, dtype=torch.float64, device=answers.device)
    from scipy.optimize import linear_sum_assignment  # slow to load

    _, columns = linear_sum_assignment(mass.cpu().numpy(), maximize=True)
    return torch.from_numpy(np.asarray(columns, dtype=np.int64)).to(answers.device)
