"""What detectors of accounts share: flags that stay, limits calibrated on the owner's images."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from agents.base import Defender, DefenderKit, Note
from agents.defenders.countermeasures import Step, check_indices, read_step
from agents.defenders.owners_traffic import OwnersTraffic
from agents.defenders.remembered import remembered
from envs.errors import PlayerError
from envs.game.rounds import Countermeasure, View
from envs.ranges import Count, Share

MOST_NOTES = 200

LABELS = "classifier"
"""The layer whose output are the victim's logits."""


@dataclass(slots=True)
class _Account:
    """What is known of an account: the images it asked, and the score that flagged it."""

    asked: int = 0
    score: float | None = None


class Flagging(Defender):
    """Flags accounts, and answers a flagged one otherwise, from the request on that flagged it.

    A subclass says in `judge` whom a request makes suspicious.

    Args:
        calm: countermeasure towards accounts without a flag; defence 0 at strength 0 where absent.
        flagged: towards flagged ones; the last defence at strength 1 where absent.
        most_clients: accounts remembered; beyond it the longest unseen is forgotten, flag and all.
    """

    def __init__(
        self, *, calm: Step | None = None, flagged: Step | None = None, most_clients: Count = 1000
    ) -> None:
        self._calm = read_step({"strength": 0.0} if calm is None else calm, where="calm")
        self._flagged = None if flagged is None else read_step(flagged, where="flagged")
        self._answers: Countermeasure | None = self._flagged
        self._most_clients = most_clients
        self._known: dict[int, _Account] = {}
        self._alarms: list[Note] = []

    @property
    def flags(self) -> dict[int, float]:
        """For each flagged account the score that flagged it."""
        return {
            client: account.score
            for client, account in self._known.items()
            if account.score is not None
        }

    def begin(self, kit: DefenderKit) -> None:
        """Set up; PlayerError where a countermeasure names a defence that is not deployed."""
        last = len(kit.deployed_defences) - 1
        self._answers = self._flagged or Countermeasure(last, 1.0)
        check_indices([self._calm, self._answers], last + 1)

    @abstractmethod
    def judge(self, view: View) -> Iterable[tuple[int, float]]:
        """Look at a request of an account without a flag.

        Returns:
            The accounts that are suspicious now, and their scores; of this one or of others.
        """

    def act(self, view: View) -> Countermeasure:
        """Judge the request, and decide by the account's flag."""
        account = remembered(self._known, view.client, self._most_clients, _Account)
        account.asked += len(view.images)
        if account.score is None:
            for suspect, score in self.judge(view):
                self._flag(suspect, score, view)
        assert self._answers is not None
        return self._calm if account.score is None else self._answers

    def notes(self) -> Sequence[Note]:
        """Tell of the first alarms."""
        return self._alarms

    def _flag(self, client: int, score: float, view: View) -> None:
        account = self._known.get(client)
        if account is None or account.score is not None:
            return
        account.score = score
        if len(self._alarms) >= MOST_NOTES:
            return
        message = f"client {client} after {account.asked:,} queries: score {score:.4g}"
        data = {"client": client, "asked": account.asked, "score": score}
        self._alarms.append(Note("alarm", message, view.answered + len(view.images), data))


class AccountScore(Protocol):
    """Scores the requests of one account."""

    def add(self, view: View) -> float:
        """Take a request; returns the account's score, which is the higher the more suspicious."""
        ...


class Calibrated(Flagging):
    """Flags an account when its score passes a limit.

    A subclass prepares what it knows of the owner's images in `fit`, and gives scores.

    Args:
        limit: of the score; calibrated where absent.
        false_alarms: share of benign accounts that the calibrated limit may flag.
        calibration: benign accounts that it is calibrated on; see
            `agents.defenders.owners_traffic`.
        queries: that each of them asks.
        most_clients: accounts remembered; beyond it the longest unseen is forgotten.

    Raises:
        PlayerError: a parameter out of range.
    """

    def __init__(
        self,
        *,
        limit: float | None = None,
        false_alarms: Share = 0.01,
        calibration: Count = 100,
        queries: Count = 200,
        calm: Step | None = None,
        flagged: Step | None = None,
        most_clients: Count = 1000,
    ) -> None:
        super().__init__(calm=calm, flagged=flagged, most_clients=most_clients)
        if not 0 <= false_alarms < 1:
            raise PlayerError(f"expected false_alarms from 0 to below 1, got {false_alarms}")
        if calibration < 1 or queries < 1 or most_clients < 1:
            raise PlayerError(
                f"expected calibration, queries and most_clients of at least 1, got "
                f"{calibration}, {queries} and {most_clients}"
            )
        self.limit, self._false_alarms = limit, false_alarms
        self._calibration, self._queries = calibration, queries
        self._scores: dict[int, AccountScore] = {}

    def begin(self, kit: DefenderKit) -> None:
        """Set up, and calibrate the limit where none is given."""
        super().begin(kit)
        self.fit(kit)
        if self.limit is None:
            traffic = OwnersTraffic(kit, self._queries, own=self.own_images(kit))
            highest = [self.highest(account) for account in traffic.accounts(self._calibration)]
            self.limit = limit_of(highest, self._false_alarms)

    @abstractmethod
    def fit(self, kit: DefenderKit) -> None:
        """Learn what the owner's images look like."""

    @abstractmethod
    def new_score(self) -> AccountScore:
        """Return the score of an account that has not asked yet."""

    def own_images(self, kit: DefenderKit) -> Tensor:
        """Return the owner's images that benign accounts of the calibration ask.

        Of the training images a victim's features are not those of new ones: hence the others.
        """
        return kit.validation.images()

    def highest(self, requests: Iterable[View]) -> float:
        """Return the highest score that an account comes to with its requests."""
        score = self.new_score()
        return max((score.add(view) for view in requests), default=0.0)

    def judge(self, view: View) -> Iterable[tuple[int, float]]:
        """Add a request to its account's score."""
        client = view.client
        value = remembered(self._scores, client, self._most_clients, self.new_score).add(view)
        assert self.limit is not None
        return [(client, value)] if value > self.limit else []


def limit_of(highest: Sequence[float], false_alarms: float) -> float:
    """Return the lowest limit that at most this share of accounts passes.

    Args:
        highest: the highest score of each account, at least one.
        false_alarms: share, from 0 to below 1.
    """
    ordered = sorted(highest)
    return ordered[len(ordered) - 1 - int(false_alarms * len(ordered))]
