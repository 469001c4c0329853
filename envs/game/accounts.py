"""The attacker's accounts: which of them asks for an image, and what each has asked for."""

import math
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.errors import QueryError, Refused, ScenarioError
from envs.game.rounds import Refusal
from envs.seeding import Streams
from envs.types import ThreatModel

Numbers = NDArray[np.int64]

SAMPLE = 1000
"""Images, or ten for each account, by which "by-similarity" cuts its scale into parts."""


def whole_account(account: object) -> int | None:
    """Return an account as a plain number, however it is stored; None as it is.

    Raises:
        QueryError: it is no whole number.
    """
    if account is None:
        return None
    try:
        # any object may say that it is an index
        number = operator.index(account)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(account, bool) or abs(number) >= 2**63:
        got = "a number beyond 64 bits" if type(account) is int else f"a {type(account).__name__}"
        raise QueryError(f"expected an account as a whole number from 0, got {got}")
    return number


class Share(NamedTuple):
    """The images of one query that one account asks for.

    Attributes:
        account: counted from 0.
        rows: (n,) int64, which images of the query; None for all of them.
    """

    account: int
    rows: Tensor | None


class Accounts:
    """Deals an attacker's images out to its accounts, and counts what each is charged.

    Images without an account are dealt by `threat.account_policy`; one that would go to an account
    without queries left goes to the next one that has some, the first following the last. So does
    one that was refused, and the policy passes by an account that refused, until all have.

    "one": to account 0. "round-robin": in turn, image by image. "blocks": equal parts of the budget
    one after the other. "by-similarity": by the image's place on a random line, which is cut where
    the first images asked for fall into as many equal parts as there are accounts.

    Args:
        threat: how many accounts there are, what each may ask, and how images are dealt.
        streams: "accounts" draws the random line.

    Attributes:
        charged: (accounts,) int64, images charged.
        room: images that all accounts together may still ask for.

    Raises:
        ScenarioError: no account, or none that may ask.

    Source:
        The random line is one hash function of Datar et al. 2004, SoCG, "Locality-sensitive hashing
        scheme based on p-stable distributions", with quantiles in place of equal widths.
    """

    def __init__(self, threat: ThreatModel, streams: Streams) -> None:
        most = threat.budget if threat.account_budget is None else threat.account_budget
        if threat.accounts < 1 or most < 1:
            raise ScenarioError(
                f"expected at least 1 account that may ask for at least 1 image, got "
                f"{threat.accounts} that may ask for {most}"
            )
        self._count, self._most, self._policy = threat.accounts, most, threat.account_policy
        self._block = -(-threat.budget // threat.accounts)
        self.charged: Numbers = np.zeros(self._count, dtype=np.int64)
        self._closed: set[int] = set()
        self._passed: set[int] = set()  # refused a request
        self.room = self._count * most
        self._dealt = 0
        length = math.prod(threat.image_shape) if self._policy == "by-similarity" else 0
        self._line = streams.numpy("accounts").standard_normal(length)
        self._places: list[float] = []

    def close(self, account: int) -> None:
        """Refuse an account every further query."""
        if account not in self._closed:
            self.room -= self._left(account)
            self._closed.add(account)

    @property
    def all_closed(self) -> bool:
        """Whether every account is refused every further query."""
        return len(self._closed) == self._count

    @property
    def closed(self) -> tuple[int, ...]:
        """The accounts that are refused every further query."""
        return tuple(sorted(self._closed))

    def checked(self, account: object, count: int) -> int | None:
        """Return the account that asks for so many images; None where the policy deals them out.

        One that is named must be able to; where there is one alone, it asks.

        Raises:
            QueryError: there is no such account, or it has not so many queries left.
            Refused: it is closed.
        """
        account = whole_account(account)
        if account is None:
            return 0 if self._count == 1 else None
        if not 0 <= account < self._count:
            raise QueryError(
                f"expected an account from 0 to {self._count - 1}, as threat.accounts grants, "
                f"got {account}"
            )
        if account in self._closed:
            raise Refused(
                f"account {account} is cut off; ask from another one",
                account=account,
                is_closed=True,
            )
        if count > (left := self._left(account)):
            raise QueryError(
                f"asked for {count} answers with {left} of the {self._most} of account {account} "
                f"left; ask from another one"
            )
        return account

    def room_of(self, account: int | None) -> int:
        """Return the images that an account may still ask for; all accounts where it is None."""
        if account is None or not 0 <= account < self._count:
            return self.room
        return 0 if account in self._closed else self._left(account)

    def deal(self, images: Tensor) -> list[Share]:
        """Say by the policy which account asks for which images, in the order of first images.

        Args:
            images: (n, c, h, w), not more than there is room for.
        """
        dealt = self._with_room(self._wanted(images))
        self._dealt += len(images)
        return _shares(dealt)

    def passes(self, account: int) -> bool:
        """Whether the policy passes an account by: it refused a request, or is cut off."""
        return account in self._passed or account in self._closed

    def others(self, account: int, count: int, dealt: Mapping[int, int]) -> list[Share]:
        """Say who asks for images that an account was refused, and pass it by from now on.

        Args:
            account: that was refused.
            count: images.
            dealt: images that accounts are still to ask for, whose room is theirs.

        Returns:
            The next accounts with room that did not refuse, with places among these images; none
            where all have refused or have no room. Then the policy begins with all of them again.
        """
        self._passed.add(account)
        left = self._room_left()
        if int(left.sum()) < count:
            self._passed.clear()
            return []
        for other, images in dealt.items():
            left[other] = max(0, left[other] - images)
        if int(left.sum()) < count:
            return []
        following = np.full(count, (account + 1) % self._count, dtype=np.int64)
        return _shares(self._moved(following, left))

    def charge(self, account: int, count: int) -> None:
        """Count images that an account asks for; below 0 it takes a charge back."""
        self.charged[account] += count
        self.room -= count

    def state(self) -> dict[str, object]:
        """Return what changes while it is played; see `restore`."""
        return {
            "charged": self.charged.tolist(),
            "closed": sorted(self._closed),
            "passed": sorted(self._passed),
            "dealt": self._dealt,
            "places": list(self._places),
        }

    def restore(self, state: dict[str, Any]) -> None:  # Any: as `state` returns it
        """Go on where the accounts of another game of the same plan stood."""
        self.charged = np.array(state["charged"], dtype=np.int64)
        self._closed, self._dealt = set(), state["dealt"]
        self._passed = set(state["passed"])
        self._places = list(state["places"])
        self.room = self._count * self._most - int(self.charged.sum())
        for account in state["closed"]:
            self.close(account)

    def _left(self, account: int) -> int:
        return self._most - int(self.charged[account])

    def _room_left(self) -> Numbers:
        """Return the (accounts,) images that each may ask, without those that are passed by."""
        left = self._most - self.charged
        left[list(self._closed)] = 0
        left[list(self._passed)] = 0
        return left

    def _wanted(self, images: Tensor) -> Numbers:
        """Return the (n,) accounts that the policy means, whether they have room or not."""
        positions = np.arange(self._dealt, self._dealt + len(images), dtype=np.int64)
        if self._policy == "round-robin":
            return positions % self._count
        if self._policy == "blocks":
            return np.minimum(positions // self._block, self._count - 1)
        if self._policy == "by-similarity":
            return self._by_place(images)
        return np.zeros(len(images), dtype=np.int64)

    def _by_place(self, images: Tensor) -> Numbers:
        flat = images.flatten(1).cpu().numpy().astype(np.float64)
        # not a matrix product, whose rounding depends on how many images there are
        places = (flat * self._line).sum(1)
        missing = max(SAMPLE, 10 * self._count) - len(self._places)
        self._places.extend(places[: max(0, missing)].tolist())
        cuts = np.quantile(self._places, np.arange(1, self._count) / self._count)
        found: Numbers = np.searchsorted(cuts, places, side="right")
        return found

    def _with_room(self, wanted: Numbers) -> Numbers:
        """Move what an account cannot take to the next one that can."""
        left = self._room_left()
        if self._passed and int(left.sum()) < len(wanted):
            self._passed.clear()
            left = self._room_left()
        return self._moved(wanted, left)

    def _moved(self, wanted: Numbers, left: Numbers) -> Numbers:
        """Move what accounts have no room left for to the next one that has."""
        if (np.bincount(wanted, minlength=self._count) <= left).all():
            return wanted
        found = wanted.copy()
        for place, account in enumerate(wanted):
            while left[account] == 0:
                account = (account + 1) % self._count
            left[account] -= 1
            found[place] = account
        return found


def _shares(dealt: Numbers) -> list[Share]:
    """Gather (n,) accounts of images into shares, in the order in which accounts come up."""
    names, firsts = np.unique(dealt, return_index=True)
    if len(names) == 1:
        return [Share(int(names[0]), None)]
    order = names[np.argsort(firsts)]
    return [Share(int(one), torch.from_numpy(np.flatnonzero(dealt == one))) for one in order]


def refusal_of(account: int, refused: Refusal) -> Refused:
    """Return the error that tells an account what the defender refused."""
    if refused == "account":
        return Refused(f"account {account} is cut off", account=account, is_closed=True)
    return Refused(f"the server refuses this request of account {account}", account=account)
