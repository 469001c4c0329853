"""The channel between the arena and an isolated attacker: messages come whole or later."""

import os
import socket

import pytest

from arena.isolation.channel import Channel


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
