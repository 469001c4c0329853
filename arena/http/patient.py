"""Asks a victim elsewhere at a rate, again where a request failed; charges images before."""

import itertools
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from arena.http.channels import Channel, RequestFailed
from arena.http.protocol import Array
from arena.http.query_ledger import QueryLedger
from envs.errors import ArenaError, BudgetExhausted, Refused, VictimUnreachable

T = TypeVar("T")

TRIES = 20
"""Requests in a row for the same images, before the victim counts as unreachable."""

LONGEST_WAIT = 5.0
"""Seconds between two tries, where the server does not ask for more; a quarter at first."""

LONGEST_ASKED = 300.0
"""Seconds that a server may ask to wait."""

_REFUSED = (429, 503)
_FORBIDDEN = 403
_PASSING = (408, 500, 502, 504)


class PatientChannel:
    """Asks images through a channel until they are answered.

    A request that was not sent is charged nothing. One that the server refused (429, 503, any other
    4xx) is charged nothing where the server does not tell its count. One that was lost stays
    charged, until the server tells its count. The same images are asked at most `TRIES` times.

    Args:
        channel: to the victim.
        ledger: charges.
        rate: requests a second at most.
        batch: images of a request at most.
        note: takes a line for the log: what the server's count disagrees on.
        clock: gives seconds.
        sleep: waits for seconds.

    Attributes:
        note: as given.
        on_charge: is called with all charged images before each request.
        lost: requests that failed.
        seconds: from the latest request to its answer, over the network.
    """

    def __init__(
        self,
        channel: Channel,
        ledger: QueryLedger,
        *,
        rate: float | None = None,
        batch: int | None = None,
        note: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.ledger = ledger
        self.on_charge: Callable[[int], None] = _nothing
        self.lost, self.seconds = 0, 0.0
        self._channel, self._batch, self.note = channel, batch, note
        self._pause = 0.0 if rate is None else 1 / rate
        self._clock, self._sleep = clock, sleep
        self._next = clock()
        self._is_told = False

    def open(self) -> None:
        """Ask the server for its count, before the first image.

        Raises:
            VictimUnreachable: it does not answer.
        """
        counted = self._counted()
        self._is_told = counted is not None
        self.ledger.settle(counted)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def ask(self, images: Array) -> Array:
        """Return what the victim answers, see `Channel.ask`.

        Raises:
            BudgetExhausted: what lost requests cost has used the budget up.
            Refused: the server forbids it (403): the request, or any more of this key.
            VictimUnreachable: it gives no answer, or refuses for another reason.
            ArenaError: an answer that cannot be used.
        """
        batch = self._batch or len(images)
        parts = [images[first : first + batch] for first in range(0, len(images), batch)]
        answers = [self._request(part) for part in parts]
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def settle(self) -> None:
        """End doubt about what was charged, where the server tells its count."""
        if not self.ledger.doubtful:
            return
        before = self.ledger.unknown
        try:
            counted = self._counted() if self._is_told else None
        except VictimUnreachable:
            counted = None
        self.ledger.settle(counted)
        if others := self.ledger.unknown - before:
            self.note(
                f"the server has counted {others} images that this episode did not ask: another "
                f"client has the same key, so that lost requests stay charged; give each its own"
            )

    def _request(self, images: Array) -> Array:
        for number in itertools.count(1):
            self._charge(len(images))
            self._keep_rate()
            began = self._clock()
            try:
                answer = self._channel.ask(images)
            except RequestFailed as failed:
                self.lost += 1
                self._account(failed, len(images))
                if failed.status == _FORBIDDEN:
                    self.settle()
                    raise Refused(
                        str(failed), is_closed=failed.told.get("refused") == "account"
                    ) from failed
                self._sleep(_wait(failed, number))
            except ArenaError:  # answered, with what cannot be used
                self.settle()
                raise
            else:
                self.seconds = self._clock() - began
                self.settle()
                return answer
        raise AssertionError

    def _charge(self, images: int) -> None:
        if not self.ledger.charge(images):
            self.settle()
            if not self.ledger.charge(images):
                raise BudgetExhausted(
                    f"lost requests have used the budget up: {self.ledger.charged} of "
                    f"{self.ledger.limit} charged, and {images} images to ask again"
                )
        self.on_charge(self.ledger.charged)

    def _account(self, failed: RequestFailed, images: int) -> None:
        """Charge a failed request as far as the server may have counted it."""
        is_refused = failed.status is not None and failed.status not in _PASSING
        if not failed.is_sent or (is_refused and not self._is_told):
            self.ledger.take_back(images)
        else:
            self.ledger.doubt(images)

    def _keep_rate(self) -> None:
        if self._pause:
            now = self._clock()
            if now < self._next:
                self._sleep(self._next - now)
            self._next = max(now, self._next) + self._pause

    def _counted(self) -> int | None:
        def ask() -> int | None:
            self._keep_rate()
            try:
                return self._channel.counted()
            except RequestFailed as failed:
                if failed.status in (404, 405, 501):  # it has no such thing
                    return None
                raise

        return persistently(ask, self._sleep)


def persistently(ask: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Ask what costs nothing until it is answered.

    Raises:
        VictimUnreachable: there was no answer to `TRIES` requests, or a refusal.
    """
    for number in itertools.count(1):
        try:
            return ask()
        except RequestFailed as failed:
            sleep(_wait(failed, number))
    raise AssertionError


def _wait(failed: RequestFailed, number: int) -> float:
    """Return the seconds to wait before the next try.

    Raises:
        VictimUnreachable: there is no next try.
    """
    passing = failed.status is None or failed.status in (*_REFUSED, *_PASSING)
    wait = min(LONGEST_WAIT, 0.25 * 2 ** (number - 1)) if failed.wait is None else failed.wait
    if not passing or number >= TRIES or wait > LONGEST_ASKED:
        tried = f", after {number} tries" if number > 1 else ""
        more = f" (it wants to be asked again in {wait:.0f} s)" if wait > LONGEST_ASKED else ""
        raise VictimUnreachable(f"{failed}{tried}{more}") from failed
    return wait


def _nothing(charged: int) -> None:
    pass
