"""The query budget: what was charged, what is left, and who may not ask any more."""

from typing import Any

from envs.errors import BudgetExhausted, Refused
from envs.game.accounts import Accounts
from envs.game.rounds import Ledger
from envs.types import ThreatModel

MOST_UNPAID = 10
"""A server that refuses free of charge ends the game at so many times the budget."""


class Budget:
    """Charges queries to the attacker and its accounts.

    Args:
        threat: how many images may be asked.
        accounts: what each of the attacker's accounts may ask.
        ledger: of a victim elsewhere, which charges in the game's place, and may charge more than
            it answers.

    Attributes:
        unpaid: images that were refused free of charge.
    """

    __slots__ = ("_accounts", "_ledger", "_most", "_most_unpaid", "_used", "unpaid")

    def __init__(self, threat: ThreatModel, accounts: Accounts, ledger: Ledger | None) -> None:
        self._most, self._most_unpaid = threat.budget, MOST_UNPAID * threat.budget
        self._accounts, self._ledger = accounts, ledger
        self._used = self.unpaid = 0

    @property
    def used(self) -> int:
        """Images charged so far."""
        return self._used if self._ledger is None else self._ledger.charged

    @property
    def tired(self) -> bool:
        """Whether so much was refused free of charge that the server answers no more."""
        return self.unpaid >= self._most_unpaid

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        # not by `used` and `tired`, because it is read twice in every round
        if self.unpaid >= self._most_unpaid:
            return 0
        ledger, room = self._ledger, self._accounts.room
        left = self._most - (self._used if ledger is None else ledger.charged)
        return left if left < room else room

    def require(self, count: int) -> None:
        """Check that so many images may be asked.

        Raises:
            BudgetExhausted: fewer are left.
            Refused: every account is cut off, or so much was refused free of charge that the
                server answers no more.
        """
        left = self.remaining
        if count <= left:
            return
        if self._accounts.all_closed:
            raise Refused("every account of the attacker is cut off", is_closed=True)
        if self.tired:
            raise Refused(
                f"{self.unpaid} images were refused free of charge, at least {MOST_UNPAID} times "
                f"the budget; the server answers no more",
                is_closed=True,
            )
        raise BudgetExhausted(f"asked for {count} answers with {left} of {self._most} left")

    def charge(self, account: int, count: int) -> None:
        """Charge images to an account before they are answered."""
        self._used += count
        self._accounts.charge(account, count)

    def take_back(self, account: int, count: int) -> None:
        """Take the charge of a request back that was refused or broken off.

        A victim elsewhere charges by its own ledger, whatever is taken back here.
        """
        self.charge(account, -count)

    def state(self) -> dict[str, object]:
        """Return what changes while it is played; see `restore`."""
        return {"used": self.used, "unpaid": self.unpaid}

    def restore(self, state: dict[str, Any]) -> None:  # Any: as `state` returns it
        """Go on from what another's `state` returned, among other things."""
        self._used, self.unpaid = state["used"], state["unpaid"]
