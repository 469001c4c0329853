"""Draws the numbers under which clients ask in one episode; they tell nothing of a client."""

from envs.seeding import Streams

_MOST = 2**31


class ClientNumbers:
    """The numbers of one episode: different for each client, new in each episode.

    Args:
        streams: random streams of the episode; the numbers come from "clients".
        accounts: of the attacker.

    Attributes:
        referee: under it the referee looks at the service, as one more benign client.
        accounts: those of the attacker's accounts, in order.
    """

    def __init__(self, streams: Streams, accounts: int = 1) -> None:
        self._stream = streams.numpy("clients")
        self._drawn: list[int] = []
        self._taken: set[int] = set()
        self.referee = self._number(0)
        self.accounts = tuple(self._number(1 + account) for account in range(accounts))

    def benign(self, client: int) -> int:
        """Return the number of a benign client, who is counted from 1."""
        return self._number(len(self.accounts) + client)

    def _number(self, place: int) -> int:
        # drawn in order, so that a number does not depend on who asks first
        while len(self._drawn) <= place:
            number = int(self._stream.integers(1, _MOST))
            if number not in self._taken:
                self._taken.add(number)
                self._drawn.append(number)
        return self._drawn[place]
