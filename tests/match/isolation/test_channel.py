"""The channel between the arena and an isolated attacker: messages come whole or later."""

import os
import socket
import tracemalloc

import pytest
import torch

from arena.isolation.channel import Channel, ChannelError
from tests.match.isolation.conftest import Makes


def test_a_wait_that_is_broken_off_loses_no_half_of_a_message():
    ours, theirs = socket.socketpair()
    channel = Channel(ours, os.memfd_create("shared"), None)
    text = b'{"say":"ended"}'
    theirs.sendall(len(text).to_bytes(4, "big") + text[:5])
    with pytest.raises(TimeoutError):
        channel.receive(0.05)
    theirs.sendall(text[5:])
    assert channel.receive(1.0)["say"] == "ended"
    channel.close()
    theirs.close()


@pytest.mark.parametrize("read", [
    lambda channel: channel.get_bytes(2**28),
    lambda channel: channel.get_bytes(2**10, 2**62),
    lambda channel: channel.get((2**14, 2**14), torch.float32),
    lambda channel: channel.get((2**60,), torch.uint8),
])  # fmt: skip
def test_no_room_is_made_for_what_the_shared_file_does_not_hold(read):
    ours, theirs = socket.socketpair()
    channel = Channel(ours, os.memfd_create("shared"))
    channel.put_bytes(b"some")
    tracemalloc.start()
    try:
        with Makes() as made, pytest.raises(ChannelError, match="shorter than was said"):
            read(channel)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
        channel.close()
        theirs.close()
    assert made.largest == 0
