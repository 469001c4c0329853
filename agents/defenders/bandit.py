"""The defender that learns from one episode to the next which countermeasure pays.

Source:
    UCB1 of Auer, Cesa-Bianchi and Fischer 2002, Machine Learning 47.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor

from agents.base import Defender, DefenderKit, Note
from agents.defenders.countermeasures import Step, check_indices, read_step
from agents.defenders.query_drift import DriftTest
from envs.errors import PlayerError
from envs.game.rounds import Countermeasure, Served, View
from envs.ranges import Amount, Share


class Bandit(Defender):
    """Answers a whole episode by one countermeasure, and prefers those that paid before.

    A server does not see clones. What it sees of an arm, over an episode, is

        reward = 1 - leak_price L - compute_price C - utility_price U,  cut to [0, 1]

    L: what answers to suspects tell about their queries, in [0, 1]: entropy of the mean answer
    minus mean entropy of the answers, over ln K; 0 while nobody is suspected. C: how deep answers
    left, the mean of (exit + 1) over the most exits seen of any arm, in [0, 1]. U: the doubt in
    answers to everybody else, 1 minus their mean confidence. Suspects are found as by `detector`
    with its own test; who is one, is one for the episode.

    An episode of a scenario's seeds follows the other, in their order, and every attacker meets a
    defender that knows nothing yet. Arms never tried come first, in order.

    Args:
        arms: countermeasures to choose from; every defence at strength 1 where absent.
        leak_price: of what suspects are told.
        compute_price: of depth.
        utility_price: of doubt towards everybody else.
        exploration: weight of the confidence bound; UCB1 has 1.
        normality, band: see `agents.defenders.detector.Detector`.

    Raises:
        PlayerError: a price or exploration below 0, or an arm that does not exist.

    Notes:
        L cannot tell a confident lie from a confident answer: a defence that swaps labels without
        adding doubt looks leaky, and one that hurts benign users so looks free. C counts exits as
        if they were equally far apart, and knows nothing of a defence's own overhead.
    """

    learns_between_episodes: ClassVar[bool] = True

    def __init__(
        self,
        *,
        arms: Sequence[Step] | None = None,
        leak_price: Amount = 1.0,
        compute_price: Amount = 0.2,
        utility_price: Amount = 1.0,
        exploration: Amount = 1.0,
        normality: Share = 0.85,
        band: Sequence[float] | None = None,
    ) -> None:
        for name, value in (
            ("leak_price", leak_price),
            ("compute_price", compute_price),
            ("utility_price", utility_price),
            ("exploration", exploration),
        ):
            if value < 0:
                raise PlayerError(f"expected {name} of at least 0, got {value}")
        if arms is not None and len(arms) == 0:
            raise PlayerError("expected at least one arm, or no arms at all")
        self._arms = [read_step(arm, where=f"arms[{n}]") for n, arm in enumerate(arms or ())]
        self._prices = (leak_price, compute_price, utility_price)
        self._exploration = exploration
        self._normality, self._band = normality, band
        self._tests: dict[int, DriftTest] = {}
        self._suspects: set[int] = set()
        self._answered = 0
        self._told: Answers | None = None  # to suspects
        self._rest: Answers | None = None  # to everybody else
        self.chosen = 0
        self.past: list[dict[str, float]] = []

    def begin(self, kit: DefenderKit) -> None:
        """Set up; PlayerError where an arm names a defence that is not deployed."""
        count = len(kit.deployed_defences)
        if not self._arms:
            self._arms = [Countermeasure(defence, 1.0) for defence in range(count)]
        check_indices(self._arms, count)
        self.load_carried_state({})

    def load_carried_state(self, carried_state: Mapping[str, object]) -> None:
        """Take up the episodes before, and choose the arm of this one."""
        self.past = list(cast(list[dict[str, float]], carried_state.get("past", [])))
        self.chosen = choose(self._scored(self.past), len(self._arms), weight=self._exploration)

    def act(self, view: View) -> Countermeasure:
        """Decide as for the whole episode."""
        return self._arms[self.chosen]

    def learn(self, served: Served) -> None:
        """Count what an answer told and cost."""
        client, posteriors = served.view.client, served.posteriors
        self._answered = served.view.answered + len(posteriors)
        if client not in self._suspects and self._suspicious(served):
            self._suspects.add(client)
        self._told = self._told or Answers(posteriors)
        self._rest = self._rest or Answers(posteriors)
        (self._told if client in self._suspects else self._rest).add(posteriors, served.exits)

    def carried_state(self) -> Mapping[str, object]:
        """Tell every episode so far with what was seen of its arm."""
        return {"past": [*self.past, self._seen()]} if self._told else {}

    def notes(self) -> Sequence[Note]:
        """Tell which arm was played and what was seen of it."""
        if self._told is None:
            return ()
        seen = self._seen()
        arm = self._arms[self.chosen]
        text = (
            f"arm {self.chosen} (defence {arm.defence}, strength {arm.strength}): leak "
            f"{seen['leak']:.3f}, doubt {seen['doubt']:.3f}, suspects {len(self._suspects)}"
        )
        return (Note("arm", text, self._answered, {**seen, "suspects": len(self._suspects)}),)

    def _suspicious(self, served: Served) -> bool:
        client = served.view.client
        test = self._tests.setdefault(
            client,
            DriftTest(
                normality=self._normality, band=self._band, window=200, every=100, memory=600
            ),
        )
        evidence = test.add(served.view.images, served.posteriors.argmax(1))
        return any(found.reason for found in evidence)

    def _seen(self) -> dict[str, float]:
        assert self._told is not None
        assert self._rest is not None
        told, rest = self._told.read(), self._rest.read()
        return {
            "arm": self.chosen,
            "leak": told["leak"],
            "doubt": rest["doubt"],
            "depth": (told["depth"] + rest["depth"]) / max(1.0, told["count"] + rest["count"]),
            "exits": max(told["exits"], rest["exits"]),
        }

    def _scored(self, past: Sequence[Mapping[str, float]]) -> list[tuple[int, float]]:
        """Turn what was seen into (arm, reward); depths count by the most exits ever seen."""
        most = max((seen["exits"] for seen in past), default=1.0)
        leak, compute, utility = self._prices
        return [
            (
                int(seen["arm"]),
                min(1.0, max(0.0, 1 - leak * seen["leak"] - compute * seen["depth"] / most
                             - utility * seen["doubt"])),
            )
            for seen in past
        ]  # fmt: skip


class Answers:
    """Sums up answers on their device, bounded in memory and without a wait.

    Args:
        like: (n, K) answers, for the device and the number of classes.
    """

    def __init__(self, like: Tensor) -> None:
        self._total = torch.zeros(like.shape[1], dtype=torch.float64, device=like.device)
        self._entropy, self._confidence, self._depth = torch.zeros_like(self._total[:3]).unbind()
        self._most = torch.zeros((), dtype=torch.int64, device=like.device)
        self._count = 0

    def add(self, posteriors: Tensor, exits: Tensor) -> None:
        """Count (n, K) answers and the (n,) exits they left from."""
        answers = posteriors.double()
        self._total = self._total + answers.sum(0)
        self._entropy = self._entropy + torch.special.entr(answers).sum()
        self._confidence = self._confidence + answers.amax(1).sum()
        self._depth = self._depth + (exits + 1).sum()
        self._most = torch.maximum(self._most, exits.max() + 1)
        self._count += len(answers)

    def read(self) -> dict[str, float]:
        """Return `leak` and `doubt` in [0, 1], the summed `depth`, `exits` and `count`."""
        if self._count == 0:
            return {"leak": 0.0, "doubt": 0.0, "depth": 0.0, "exits": 1.0, "count": 0.0}
        mean = self._total / self._count
        nats = float(torch.special.entr(mean).sum() - self._entropy / self._count)
        return {
            "leak": min(1.0, max(0.0, nats / math.log(len(mean)))),
            "doubt": 1 - float(self._confidence) / self._count,
            "depth": float(self._depth),
            "exits": float(self._most),
            "count": float(self._count),
        }


def choose(rewards: Sequence[tuple[int, float]], arms: int, *, weight: float) -> int:
    """Choose the arm of the largest upper confidence bound; untried ones first, in order.

    Args:
        rewards: (arm, reward in [0, 1]) of every play so far.
        arms: how many there are.
        weight: of the bound; 0 is greedy.

    Returns:
        The arm that maximises mean + weight sqrt(2 ln n / plays); ties go to the lowest.
    """
    counts, totals = [0] * arms, [0.0] * arms
    for arm, reward in rewards:
        counts[arm] += 1
        totals[arm] += reward
    if 0 in counts:
        return counts.index(0)
    breadth = 2 * math.log(len(rewards))
    bounds = [
        total / count + weight * math.sqrt(breadth / count)
        for total, count in zip(totals, counts, strict=True)
    ]
    return bounds.index(max(bounds))
