"""Where a match computes: one device, or several that its workers share out."""

import torch

from envs.errors import ArenaError


def pick_device(name: str) -> torch.device:
    """Turn a name into a device that is there.

    Raises:
        ArenaError: no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArenaError(f"expected a device like 'cpu' or 'cuda:0', got '{name}'") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ArenaError(f"device '{name}' is not there; CUDA devices found: {count}")
    elif device.type != "cpu":
        raise ArenaError(f"expected 'cpu' or 'cuda', got device '{name}'")
    return device


def pick_devices(names: str, *, workers: int) -> tuple[torch.device, ...]:
    """Turn "cuda:0,cuda:1" into devices; "cuda" is every CUDA device where several work.

    Raises:
        ArenaError: one of them is not there.
    """
    if names == "cuda" and workers > 1 and torch.cuda.device_count() > 1:
        names = ",".join(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return tuple(pick_device(name.strip()) for name in names.split(","))
