"""The ledger of a victim elsewhere: what was asked of it is charged as its server counts it."""

from typing import Any


class QueryLedger:
    """Charges images before they are sent, and settles with the server's own count.

    Of an image whose request was lost on the way it is not known whether the server counted it. It
    stays charged until the server tells its count, and for good where it tells none.

    Args:
        limit: images that may be charged.

    Attributes:
        charged: images charged so far.
        doubtful: of them, those that the server may not have counted.
        unknown: images beyond these that the server has counted: of another client with the key.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.charged = self.doubtful = self.unknown = 0
        self._ahead: int | None = None  # the server's count less ours, where both are certain

    def charge(self, images: int) -> bool:
        """Charge images that are about to be sent; returns whether the limit allows them."""
        if self.charged + images > self.limit:
            return False
        self.charged += images
        return True

    def take_back(self, images: int) -> None:
        """Charge less: the server did not see these images, or refused them unasked."""
        self.charged -= images

    def doubt(self, images: int) -> None:
        """Note that charged images may not have been counted."""
        self.doubtful += images

    def settle(self, counted: int | None) -> None:
        """End all doubt: by the server's count, or by leaving charged what was in doubt.

        A count that lies outside what may be doubted is that of a server that forgot, or that
        others ask as well: then all stays charged.

        Args:
            counted: images that the server has counted so far; None where it does not tell.
        """
        if counted is None:
            self.doubtful = 0
            return
        if self._ahead is None:
            self._ahead = counted - (self.charged - self.doubtful)
        ours = counted - self._ahead
        if self.charged - self.doubtful <= ours <= self.charged:
            self.charged = ours
        else:
            self.unknown += max(0, ours - self.charged)
            self._ahead = counted - self.charged
        self.doubtful = 0

    def state(self) -> dict[str, int | None]:
        """Return what a save keeps; see `restore`."""
        return {"charged": self.charged, "ahead": self._ahead}

    def restore(self, state: dict[str, Any], charged: int) -> None:
        """Go on from a save, when more may have been asked since.

        A victim elsewhere cannot be rewound: what was asked after the save stays in doubt until
        the next `settle`.

        Args:
            state: as `state` returned it (hence `Any`).
            charged: images that had been charged when the episode broke off.
        """
        self._ahead = state["ahead"]
        self.charged = max(charged, state["charged"])
        if self._ahead is not None:  # else no count of the server's tells how many of them it saw
            self.doubtful = self.charged - state["charged"]
