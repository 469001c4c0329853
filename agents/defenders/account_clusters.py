"""Tells an attacker with many accounts by what the accounts have in common."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from agents.base import DefenderKit
from agents.defenders.countermeasures import Step
from agents.defenders.flagging import Flagging
from agents.defenders.mean_embeddings import Embedding, History, Space, components, quantile
from agents.defenders.owners_traffic import OwnersTraffic
from agents.defenders.remembered import remembered
from envs.errors import PlayerError
from envs.game.rounds import Countermeasure, View
from envs.ranges import Count, Share

_POPULATION, _ROUNDS = 25, 8  # benign accounts that are clustered together, and how often anew
_RELATIVE = 0.1  # strange accounts this much closer to each other than to the owner's are alike


class AccountClusters(Flagging):
    """Flags accounts that ask alike, and unlike the owner's images.

    For each account the mean embedding of its queries is kept: random Fourier features of a
    Gaussian kernel on the victim's last features. Every so many queries, accounts that differ from
    the owner's images are linked where they do not differ from each other, by the squared maximum
    mean discrepancy (MMD); connected accounts are a cluster. The queries of a cluster together are
    tested against the owner's images: the score is the squared MMD times half the harmonic mean of
    the numbers of images.

    Other parameters are those of `agents.defenders.flagging.Flagging`.

    Args:
        every: queries of all accounts between two looks.
        least: accounts of a cluster.
        least_queries: that an account must have asked.
        differs: share of benign accounts that do not differ from the owner's images.
        alike: share of pairs of benign accounts that are linked. Linked are also accounts that lie
            ten times as far from the owner's images as from each other.
        frequencies: random Fourier features.
        limit: of the score; calibrated where absent.
        false_alarms: share of benign accounts that the calibrated limit may flag.
        calibration: benign accounts that limits are calibrated on; see
            `agents.defenders.owners_traffic`.
        queries: that each of them asks.
        most_clients: accounts remembered; beyond it the longest unseen is forgotten.

    Raises:
        PlayerError: a parameter out of range.

    Notes:
        Ours; nothing published was found. Users with the same odd kind of images are a cluster too.
        The owner's images are taken from the validation set, because a victim's features of
        images that it was trained on are not those of new ones.
    """

    def __init__(
        self,
        *,
        every: Count = 500,
        least: Count = 3,
        least_queries: Count = 50,
        differs: Share = 0.8,
        alike: Share = 0.9,
        frequencies: Count = 256,
        limit: float | None = None,
        false_alarms: Share = 0.01,
        calibration: Count = 100,
        queries: Count = 200,
        calm: Step | None = None,
        flagged: Step | None = None,
        most_clients: Count = 10_000,
    ) -> None:
        super().__init__(calm=calm, flagged=flagged, most_clients=most_clients)
        if least < 2 or least_queries < 2 or calibration < 2 or queries < 2:
            raise PlayerError(
                f"expected least, least_queries, calibration and queries of at least 2, got "
                f"{least}, {least_queries}, {calibration} and {queries}"
            )
        for name, share in (("differs", differs), ("alike", alike), ("false_alarms", false_alarms)):
            if not 0 <= share < 1:
                raise PlayerError(f"expected {name} from 0 to below 1, got {share}")
        if every < 1 or frequencies < 1 or most_clients < 1:
            raise PlayerError(
                f"expected every, frequencies and most_clients of at least 1, got {every}, "
                f"{frequencies} and {most_clients}"
            )
        self._every, self._least, self._least_queries = every, least, least_queries
        self._differs, self._alike, self._frequencies = differs, alike, frequencies
        self.limit, self._false_alarms = limit, false_alarms
        self._calibration, self._queries = calibration, queries
        self._accounts: dict[int, History] = {}
        self._seen = self._looked = 0

    def begin(self, kit: DefenderKit) -> None:
        """Set up, and calibrate what is far and what is near on the owner's images."""
        super().begin(kit)
        own = kit.validation.images()
        own = own[torch.randperm(len(own), generator=kit.generator, device=kit.device)]
        # accounts of other images than the reference, because benign users differ from it too; and
        # no moved copies, in which all accounts would be alike
        half = len(own) // 2
        if half < 2:
            raise PlayerError(
                f"expected at least 4 validation images, because benign accounts ask one half and "
                f"are compared with the other, got {len(own)}"
            )
        reference = OwnersTraffic(kit, half, own=own[:half], times=0)
        # half of its images at most, or all accounts would ask the same
        asked = max(2, min(self._queries, half // 2))
        traffic = OwnersTraffic(kit, asked, own=own[half:], times=0)
        self._embedding = Embedding(reference.features(), self._frequencies, kit.generator)
        benign = []
        for requests in traffic.accounts(self._calibration):
            history = History()
            for view in requests:
                history.add(self._embedding(view.features()))
            benign.append(history)
        self._space = Space(History.of(self._embedding(reference.features())))
        self._far = quantile(self._space.from_owner(benign), self._differs)
        between = self._space.between(benign)
        self._near = quantile(between[np.triu_indices(len(benign), 1)], self._alike)
        if self.limit is None:
            self.limit = self._calibrated(benign, kit.generator)

    def act(self, view: View) -> Countermeasure:
        """Add the request to its account, look now and then at all, and decide by the flag."""
        history = remembered(self._accounts, view.client, self._most_clients, History)
        history.add(self._embedding(view.features()))
        self._seen += len(view.images)
        return super().act(view)

    def judge(self, view: View) -> Iterable[tuple[int, float]]:
        """Look at all accounts, where it is due."""
        if self._seen - self._looked < self._every:
            return []
        self._looked = self._seen
        names = [c for c, one in self._accounts.items() if one.count >= self._least_queries]
        assert self.limit is not None
        return [
            (names[place], cluster.score)
            for cluster in self._clusters([self._accounts[name] for name in names])
            if cluster.score > self.limit
            for place in cluster.members
        ]

    def _clusters(self, accounts: Sequence[History]) -> list["Cluster"]:
        """Find the clusters among accounts, and test each as one."""
        if not accounts:
            return []
        far = np.flatnonzero(self._space.from_owner(accounts) > self._far).tolist()
        strange = [accounts[place] for place in far]
        found = []
        for members in components(self._linked(strange)):
            if len(members) >= self._least:
                whole = History.joined([strange[member] for member in members])
                score = float(self._space.from_owner([whole])[0])
                found.append(Cluster([far[member] for member in members], score))
        return found

    def _linked(self, accounts: Sequence[History]) -> NDArray[np.bool_]:
        """Tell which of some strange accounts are alike."""
        from_owner = self._space.from_owner(accounts)
        strangeness = np.minimum(from_owner[:, None], from_owner[None])
        found: NDArray[np.bool_] = self._space.between(accounts) <= np.maximum(
            self._near, _RELATIVE * strangeness
        )
        return found

    def _calibrated(self, benign: Sequence[History], generator: torch.Generator) -> float:
        """Return the lowest limit that flags no more than the share of benign accounts."""
        found: list[Cluster] = []
        for _ in range(_ROUNDS):
            order = torch.randperm(len(benign), generator=generator, device=generator.device)
            for part in order.split(_POPULATION):
                found += self._clusters([benign[place] for place in part.tolist()])
        allowed = self._false_alarms * _ROUNDS * len(benign)
        flagged, limit = 0, self._far  # no cluster is tested that is not far by itself
        for cluster in sorted(found, key=lambda one: one.score, reverse=True):
            flagged += len(cluster.members)
            if flagged > allowed:
                limit = max(limit, cluster.score)
                break
        return limit


class Cluster(NamedTuple):
    """Linked accounts, by their places, and the score of their queries together."""

    members: list[int]
    score: float
