"""The state that all players of one process share, and that none of them may move."""

import hashlib
import random
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A snapshot of what is global to a process.

    Attributes:
        values: by name, in comparable form.
        streams: what is needed to set the random streams back.
    """

    values: dict[str, object]
    streams: tuple[object, ...]

    @classmethod
    def capture(cls) -> "ProcessState":
        """Take a snapshot."""
        # a tuple of the generator's kind, its words, and where it stands in them
        words = np.random.get_state()
        streams = (random.getstate(), words, torch.get_rng_state(), _cuda_streams())
        return cls({**_streams(streams), **_settings()}, streams)

    def changes_since(self, before: "ProcessState") -> tuple[str, ...]:
        """Name what is no longer as it was `before`."""
        return tuple(
            name for name, value in self.values.items() if value != before.values.get(name)
        )

    def restore(self) -> None:
        """Set everything back, so that a faulty player spoils no later check."""
        python, words, cpu, cuda = self.streams
        random.setstate(python)  # type: ignore[arg-type]
        np.random.set_state(words)  # type: ignore[arg-type]
        torch.set_rng_state(cpu)  # type: ignore[arg-type]
        if cuda:
            torch.cuda.set_rng_state_all(cuda)  # type: ignore[arg-type]
        torch.set_grad_enabled(bool(self.values["gradient mode"]))
        torch.set_default_dtype(self.values["default dtype"])  # type: ignore[arg-type]
        torch.set_num_threads(self.values["threads"])  # type: ignore[arg-type]
        torch.set_float32_matmul_precision(self.values["matrix precision"])  # type: ignore[arg-type]
        torch.backends.cudnn.allow_tf32 = bool(self.values["cuDNN TF32"])
        torch.backends.cudnn.benchmark = bool(self.values["cuDNN benchmark"])
        torch.use_deterministic_algorithms(bool(self.values["deterministic algorithms"]))


def _streams(streams: tuple[object, ...]) -> dict[str, object]:
    python, words, cpu, cuda = streams
    assert isinstance(cpu, torch.Tensor)
    return {
        "random stream of random": hash(python),
        "random stream of NumPy": _digest(words[1].tobytes()) + repr(words[2:]),  # type: ignore[index]
        "random stream of torch": _digest(cpu.numpy().tobytes()),
        "random stream of CUDA": tuple(_digest(s.numpy().tobytes()) for s in cuda),  # type: ignore[attr-defined]
    }


def _settings() -> dict[str, object]:
    return {
        "gradient mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "matrix precision": torch.get_float32_matmul_precision(),
        "cuDNN TF32": torch.backends.cudnn.allow_tf32,
        "cuDNN benchmark": torch.backends.cudnn.benchmark,
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _cuda_streams() -> list[torch.Tensor]:
    # asking for a stream would start the device; a stream that was never used has no state
    if not torch.cuda.is_initialized():
        return []
    return torch.cuda.get_rng_state_all()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
