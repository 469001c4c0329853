"""Answers what an isolated attacker asks: its images come through a file in memory."""

from typing import Any

import torch

from arena.isolation.channel import Channel
from envs.errors import BudgetExhausted, QueryError, Refused
from envs.oracle import Oracle
from envs.types import Response

# `Any` in this file: JSON as it was parsed.

_LARGEST_COUNT = 2**32
_QUERY_BYTES = 2 * 2**30


def answer(channel: Channel, oracle: Oracle, count: int, account: Any) -> None:
    """Answer what the process asks through the channel, or refuse it.

    Args:
        channel: to the process, in which the images lie.
        oracle: answers.
        count: of the images, as the process says.
        account: that asks, as the process says.
    """
    try:
        response = _ask(channel, oracle, count, account)
    except (BudgetExhausted, QueryError) as refusal:
        channel.send("refused", remaining=oracle.remaining, **_told_of(refusal))
        return
    shown = oracle.threat.latency_visible
    channel.put(response.posteriors, *([response.latency] if shown else []))
    channel.send("answer", latency=shown, remaining=oracle.remaining)


def _ask(channel: Channel, oracle: Oracle, count: int, account: Any) -> Response:
    shape = oracle.threat.image_shape
    if count == 0:
        raise QueryError("expected at least one image, got an empty batch")
    if count > oracle.remaining:
        # refused for its size, in the game's own words, before anything is read
        return oracle.query(torch.zeros(1).expand(min(count, _LARGEST_COUNT), *shape), account)
    if count * torch.Size(shape).numel() * 4 > _QUERY_BYTES:
        raise QueryError(f"{count} images are more than {_QUERY_BYTES} bytes; ask for fewer")
    return oracle.query(channel.get((count, *shape), torch.float32)[0], account)


def _told_of(refusal: BudgetExhausted | QueryError) -> dict[str, object]:
    """Describe a refusal in JSON values."""
    if isinstance(refusal, Refused):
        more = {name: getattr(refusal, name) for name in ("account", "is_closed", "charged")}
        return {"kind": "Refused", "text": str(refusal), "more": more}
    kind = "BudgetExhausted" if isinstance(refusal, BudgetExhausted) else "QueryError"
    return {"kind": kind, "text": str(refusal), "more": {}}
