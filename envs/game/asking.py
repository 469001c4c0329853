"""Asks for the images of a query from the accounts that may ask, and again where one is refused."""

from collections import Counter, deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from envs.errors import Refused
from envs.game.accounts import Accounts, Share
from envs.types import Response

Ask = Callable[[Tensor, int], Response]
"""Asks for some images from one account."""


def ask_accounts(
    ask: Ask,
    accounts: Accounts,
    images: Tensor,
    *,
    remaining: Callable[[], int],
    latency: bool,
) -> Response:
    """Ask for images by the policy of the accounts.

    What the policy dealt to an account that is refused is asked from the next account, until it is
    answered or every account has refused.

    Args:
        ask: raises Refused where an account is refused.
        accounts: deal, and know which are cut off.
        images: (n, c, h, w), n at most the images that may still be asked.
        remaining: gives the images that may still be asked.
        latency: whether answers show how long they took.

    Returns:
        The answers in the order of the images.

    Raises:
        Refused: no account is left that could ask. What `ask` charged before stays charged.
    """
    waiting = deque(_placed(accounts.deal(images), torch.arange(len(images))))
    answers: list[Response] = []
    rows: list[Tensor] = []
    refusal: Refused | None = None
    while waiting:
        asking, places = waiting.popleft()
        whole = len(places) == len(images)
        try:
            # a share that was dealt before its account refused another is not asked by it
            if refusal is not None and accounts.passes(asking):
                raise refusal
            answer = ask(images if whole else images[places.to(images.device)], asking)
        except Refused as error:
            refusal = error
            dealt: Counter[int] = Counter()
            for account, more in waiting:
                dealt[account] += len(more)
            others = accounts.others(asking, len(places), dealt)
            due = len(places) + dealt.total()
            if not others or due > remaining():
                raise
            waiting.extendleft(reversed(_placed(others, places)))
            continue
        answers.append(answer)
        rows.append(places)
    return answers[0] if len(answers) == 1 else in_order(answers, torch.cat(rows), latency=latency)


def _placed(shares: Sequence[Share], places: Tensor) -> list[tuple[int, Tensor]]:
    """Tell each account's places among all images; `places` are those that are shared out."""
    return [
        (share.account, places if share.rows is None else places[share.rows]) for share in shares
    ]


def in_order(answers: Sequence[Response], rows: Tensor, *, latency: bool) -> Response:
    """Join answers; row i of them, one after the other, answers image `rows[i]`."""
    device = answers[0].posteriors.device
    order = rows.to(device).argsort()
    posteriors = torch.cat([answer.posteriors for answer in answers])[order]
    if not latency:
        return Response(posteriors)
    seconds = torch.cat([answer.latency for answer in answers])
    return Response(posteriors, seconds[order.to(seconds.device)])
