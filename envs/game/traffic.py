"""Benign users' queries: a real API serves them beside the attacker.

The stream of benign images is a function of position alone: how an attacker splits its queries
into batches changes neither which images come nor how many there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.data.images import ImageSet

Positions = NDArray[np.int64]

_FINEST = 1_000_000  # shares are taken as fractions with at most this denominator


@dataclass(frozen=True, slots=True, eq=False)
class BenignRequest:
    """Images that one benign user asks together.

    Attributes:
        images: (n, c, h, w) float32 in [0, 1].
        labels: (n,) int64; -1 where the image belongs to no class of the victim.
        client: who asks, counted from 1; the server sees another number.
        ood: whether these are benign queries out of distribution.
    """

    images: Tensor
    labels: Tensor
    client: int
    ood: bool


class BenignTraffic:
    """Mixes benign queries into the attack's, at an exact share over time.

    The images are cycled through in a seeded order. The fraction of a query that is still owed
    is carried to the next request.

    Args:
        images: held-out in-distribution images.
        share: of all queries that are benign, 0 to 0.999999.
        generator: draws the order, once.
        ood: benign users' images that belong to no class of the victim.
        ood_share: of the benign queries that come from `ood`, 0 to 1, evenly spread.
        clients: benign users, who take turns.
        session: consecutive queries of one user before the next one's turn.

    Raises:
        ValueError: a share outside its range, an empty set, `ood_share` without `ood`, or images
            of two shapes.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        share: float,
        generator: torch.Generator,
        ood: ImageSet | None = None,
        ood_share: float = 0.0,
        clients: int = 1,
        session: int = 32,
    ) -> None:
        _check(images, share=share, ood=ood, ood_share=ood_share, clients=clients, session=session)
        # below 1, which a share that is a hair below it would be rounded to
        exact = min(Fraction(share).limit_denominator(_FINEST), Fraction(_FINEST - 1, _FINEST))
        self._per_attack = exact / (1 - exact)
        self._ood_share = Fraction(ood_share).limit_denominator(_FINEST)
        self._clients, self._session = clients, session
        self._sets = (images, images if ood is None else ood)
        self._orders = tuple(_shuffled(part, generator) for part in self._sets)
        self._attack_queries = 0
        self.drawn = 0

    @property
    def position(self) -> tuple[int, int]:
        """Attack queries seen and benign ones drawn; everything else is fixed by the seed."""
        return self._attack_queries, self.drawn

    @position.setter
    def position(self, position: tuple[int, int]) -> None:
        self._attack_queries, self.drawn = position

    def draw(self, attack_count: int) -> list[BenignRequest]:
        """Return the requests that benign users make beside `attack_count` attack queries."""
        self._attack_queries += attack_count
        due = int(self._attack_queries * self._per_attack)
        positions = np.arange(self.drawn, due, dtype=np.int64)
        self.drawn = due
        return list(self._requests(positions))

    def _requests(self, positions: Positions) -> Iterator[BenignRequest]:
        """Group positions of the stream by user and kind, in the order of first appearance."""
        if len(positions) == 0:
            return
        clients = 1 + (positions // self._session) % self._clients
        before, after = self._ood_until(positions), self._ood_until(positions + 1)
        ood = after > before
        ranks = np.where(ood, before, positions - before)
        keys = clients * 2 + ood
        _, firsts = np.unique(keys, return_index=True)
        for first in np.sort(firsts):
            rows = keys == keys[first]
            yield self._request(ranks[rows], int(clients[first]), bool(ood[first]))

    def _request(self, ranks: Positions, client: int, ood: bool) -> BenignRequest:
        chosen, order = self._sets[ood], self._orders[ood]
        index = order[torch.from_numpy(ranks % len(chosen)).to(order.device, non_blocking=True)]
        labels = chosen.labels[index]
        if ood:
            labels = torch.full_like(labels, -1)
        return BenignRequest(chosen.images(index), labels, client, ood)

    def _ood_until(self, positions: Positions) -> Positions:
        """Count the out-of-distribution queries before each position; evenly spread."""
        share = self._ood_share
        return positions * share.numerator // share.denominator


def _shuffled(images: ImageSet, generator: torch.Generator) -> Tensor:
    """Draw an order of a set, on the set's device."""
    order = torch.randperm(len(images), generator=generator, device=generator.device)
    return order.to(images.device)


def _check(
    images: ImageSet,
    *,
    share: float,
    ood: ImageSet | None,
    ood_share: float,
    clients: int,
    session: int,
) -> None:
    if not 0 <= share < 1:
        raise ValueError(f"expected a benign share of all traffic from 0 to below 1, got {share}")
    if not 0 <= ood_share <= 1:
        raise ValueError(f"expected ood_share, of the benign traffic, in [0, 1], got {ood_share}")
    if ood_share and ood is None:
        raise ValueError(f"ood_share is {ood_share} but no out-of-distribution images were given")
    if clients < 1 or session < 1:
        raise ValueError(f"expected at least 1 client and session, got {clients=}, {session=}")
    for part in (images, ood):
        if part is None:
            continue
        if len(part) == 0:
            raise ValueError(f"benign traffic needs images, and '{part.name}' has none")
        if part.image_shape != images.image_shape:
            raise ValueError(
                f"benign images are {images.image_shape}, but those of '{part.name}' are "
                f"{part.image_shape}; load both at one shape"
            )
