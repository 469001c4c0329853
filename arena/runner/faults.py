"""What ends an episode early, in words and by kind."""

import torch

from envs.errors import ArenaError, LogError

UNLUCKY = (LogError, OSError, MemoryError, torch.OutOfMemoryError)
"""Faults that are not the players'."""


def one_line(fault: Exception) -> str:
    """Tell a fault in one line: our own as they are, others with their type."""
    text = " ".join(str(fault).split()) or "no message"
    return text if isinstance(fault, ArenaError) else f"{type(fault).__name__}: {text}"
