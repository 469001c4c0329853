"""Every error a user of the arena can meet.

ArenaError
├── QueryError         a query the oracle refuses; nothing was charged
├── BudgetExhausted    more images than the budget has left; nothing was charged
│   └── Refused        the defender refuses; the error tells what was charged
├── NotGranted         the threat model does not grant what was asked for
├── PlayerError        a player broke a rule of the game
├── DefenceError       a defended answer broke its contract
├── ScenarioError      a scenario file that cannot be played
├── UnknownName        a name that nothing is registered under
├── DataMissing        a data set that is not where it should be
├── CacheError         a cached file that cannot be trusted or written
├── VictimUnreachable  a victim elsewhere that gives no answer
├── SaveError          an episode that cannot be saved, or not be gone on with
└── LogError           a log that cannot be opened, read or written
"""

import difflib
import re
from collections.abc import Iterable


class ArenaError(Exception):
    """Base of every error that is shown to a user in one line."""


# C0 and C1 but tab and line feed, marks that turn the direction of writing, lone surrogates
_CONTROLS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


def printable(text: str) -> str:
    """Replace what could steer a terminal or break a document by blanks; lines stay lines.

    Names, errors and notes come from players and from logs of others: whatever shows them, on a
    terminal, in a figure or on a page, passes them through here.
    """
    return text if text.isascii() and text.isprintable() else re.sub(_CONTROLS, " ", text)


MOST_CHARACTERS = 2000
"""Of an error's line; what is longer is cut, which its end says."""


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters: its middle is left out, and that is said.

    A text that was shortened before stays as it is.
    """
    if len(text) <= most:
        return text
    kept = (most - 50) // 2
    left_out = f" ... {len(text) - 2 * kept} characters left out ... "
    return f"{text[:kept]}{left_out}{text[-kept:]}"


def one_line(error: BaseException) -> str:
    """Describe an error in one line: ours by its message, any other by its type and message.

    Ctrl-C alone gets through, whatever a player's exception does: a message that cannot be read or
    is empty is replaced, control characters become blanks, lone surrogates are written as escapes,
    and what is longer than `MOST_CHARACTERS` is shortened.
    """
    try:
        text = str(error).encode("utf-8", "backslashreplace").decode()
    except KeyboardInterrupt:
        raise
    except BaseException:  # a player's may end the process
        text = "its message cannot be read"
    text = "".join(char if char.isprintable() else " " for char in text)
    text = " ".join(text.split()) or "no message"
    text = text if isinstance(error, ArenaError) else f"{type(error).__name__}: {text}"
    return shortened(text, MOST_CHARACTERS)


class QueryError(ArenaError):
    """A query was refused: wrong shape, dtype, range, or not finite. Nothing was charged."""


class BudgetExhausted(ArenaError):  # noqa: N818 - an end of the episode, not a fault
    """A query asked for more answers than the budget has left. Nothing was charged."""


class Refused(BudgetExhausted):
    """The server refuses a query, or every further one of an account.

    It is a `BudgetExhausted`, because an attacker that does not handle it can get no more: the
    attack ends with the clone that there is. One that does may ask other images, or from another
    account.

    Args:
        message: one line.
        account: that was refused last, as the attacker counts them; None where all are cut off.
        is_closed: whether it is cut off for good.
        charged: images that the call was charged, for requests that were refused and for answers
            of other accounts, which are lost.
    """

    def __init__(
        self,
        message: str,
        *,
        account: int | None = None,
        is_closed: bool = False,
        charged: int = 0,
    ) -> None:
        super().__init__(message)
        self.account, self.is_closed, self.charged = account, is_closed, charged


class NotGranted(ArenaError):  # noqa: N818 - a statement about the threat model
    """The threat model of this episode does not grant what was asked for."""


class PlayerError(ArenaError):
    """A player broke a rule of the game."""


class DefenceError(ArenaError):
    """A defence served an answer that breaks its contract."""


class ScenarioError(ArenaError):
    """A scenario cannot be played as it is written."""


_SHOWN = 24
"""Known names that a message lists at most."""


class UnknownName(ArenaError):  # noqa: N818 - reads as the fault it is
    """Nothing is registered under this name.

    Args:
        kind: what was looked for, as users call it ("attacker", "network").
        name: what they wrote.
        known: the names that exist, for the suggestion.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        hint = f"known: {', '.join(names[:_SHOWN])}{more}" if names else "there is none"
        if close:
            hint = f"did you mean '{close[0]}'?"
        super().__init__(f"no {kind} named '{name}'; {hint}")
        self.kind, self.name = kind, name


class DataMissing(ArenaError):  # noqa: N818 - a state of the disk
    """A data set is not where it should be; the message says what to put where."""


class CacheError(ArenaError):
    """A cached file cannot be trusted, read or written."""


class VictimUnreachable(ArenaError):  # noqa: N818 - a state of the connection, which may pass
    """A victim elsewhere gives no answer, or refuses to."""


class SaveError(ArenaError):
    """An episode cannot be saved, or its save cannot be read: gone, damaged, or of other code."""


class LogError(ArenaError):
    """A log cannot be opened, read or written."""


class LogMissing(LogError):  # noqa: N818 - a state of the disk
    """There is no log at that place."""
