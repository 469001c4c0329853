"""The process of an isolated attacker, from its first line: `python -m arena.isolation.child`.

It is confined before it loads anything but Python's own modules: threads that exist by then would
stay free.
"""

import json
import socket
import sys
from typing import TYPE_CHECKING, Any

from arena.isolation.sandbox import Places, bound_to_parent, confine

if TYPE_CHECKING:
    from arena.isolation.channel import Channel


def main() -> None:
    """Confine this process, then do what the first message asks."""
    told: dict[str, Any] = json.loads(sys.argv[1])  # Any: JSON
    del sys.argv[1:]
    bound_to_parent()
    gap = confine(Places(told["readable"], told["listed"], told["writable"]))

    from arena.isolation.channel import Channel
    from arena.system.memory import keep_memory

    keep_memory()
    channel = Channel(socket.socket(fileno=told["line"]), told["shared"], limit=None)
    channel.send("hello", gap=gap)
    if told["task"] == "attack":
        from arena.isolation.attacking import attack

        attack(channel, told["pool"])
    else:
        _describe(channel)


def _describe(channel: "Channel") -> None:
    from arena.isolation.describing import describe

    channel.send("described", **describe(channel.receive()))


if __name__ == "__main__":
    main()
