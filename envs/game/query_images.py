"""Takes the images of an attacker's query in: copies them, and checks their values."""

import torch
from torch import Tensor

from envs.errors import QueryError
from envs.types import VALUE_FAULT, faulty_values


class QueryImages:
    """Takes the images of queries in, for one game.

    Args:
        device: where they are answered.

    Attributes:
        fault: () bool on the device; whether a query held values outside [0, 1]. It rises on an
            accelerator alone: reading values there would wait for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on_host = device.type == "cpu"
        self.fault = torch.zeros((), dtype=torch.bool, device=device)

    def require_valid(self) -> None:
        """Refuse the queries so far if one held bad values; waits for the device.

        Raises:
            QueryError: on an accelerator, a query held values outside [0, 1].
        """
        if bool(self.fault):
            raise QueryError(VALUE_FAULT)

    def copied(self, images: Tensor) -> Tensor:
        """Return the game's own copy on its device, contiguous.

        The attacker keeps its own tensor, and may write into it while this one is used.

        Args:
            images: (n, channels, height, width) float32, as `envs.types.check_within` returns it.

        Raises:
            QueryError: on a CPU, a value is outside [0, 1] or NaN.
        """
        if self._on_host and images.is_cpu:
            images = images.clone(memory_format=torch.contiguous_format)
        else:
            images = images.to(self._device, copy=True, memory_format=torch.contiguous_format)
        if not self._on_host:
            self.fault |= faulty_values(images)
            return images
        low, high = images.aminmax()  # NaN if any value is
        if not (float(low) >= 0 and float(high) <= 1):
            raise QueryError(VALUE_FAULT)
        return images
