"""The state that all players of one process share: captured, compared, restored.

A player that leaves gradients off, another default dtype or a patched function behind would break
or bend the episode of the next one.
"""

import hashlib
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch

from arena.system.shared_code import SharedCode
from envs.plain_tensors import without_overrides

_guards: list[torch.inference_mode] = []
"""Ends inference mode that a player left on; torch restores the mode when a guard is deleted."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A snapshot of what is global to a process.

    Attributes:
        values: by name, in comparable form.
        streams: what is needed to set the random streams back.
        code: that players share.
    """

    values: dict[str, object]
    streams: tuple[object, ...]
    code: SharedCode

    @classmethod
    def capture(cls) -> "ProcessState":
        """Take a snapshot."""
        code = SharedCode.capture()
        with without_overrides():  # a mode that a player left on would see what follows
            # a tuple of the generator's kind, its words, and where it stands in them
            words = np.random.get_state()
            streams = (random.getstate(), words, torch.get_rng_state(), _cuda_streams())
            return cls({**_streams(streams), **_settings()}, streams, code)

    def changes_since(self, before: "ProcessState") -> tuple[str, ...]:
        """Name what is no longer as it was `before`."""
        moved = [name for name, value in self.values.items() if value != before.values.get(name)]
        return (*moved, *self.code.changes_since(before.code))

    def settings_changed_since(self, before: "ProcessState") -> tuple[str, ...]:
        """Name what is no longer as it was `before`, random streams left out."""
        return tuple(
            name for name in self.changes_since(before) if not name.startswith("random stream")
        )

    def restore(self) -> None:
        """Set everything back, so that a player spoils nothing that comes later."""
        self.code.restore()
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
        wanted = bool(self.values["deterministic algorithms"])
        if torch.are_deterministic_algorithms_enabled() != wanted:
            torch.use_deterministic_algorithms(wanted)  # loads a compiler, which takes seconds
        torch.autograd.set_detect_anomaly(bool(self.values["anomaly detection"]))
        sys.setrecursionlimit(self.values["recursion limit"])  # type: ignore[arg-type]
        _restore_autocast(self.values)
        if torch.is_inference_mode_enabled() != self.values["inference mode"]:
            _guards.append(torch.inference_mode(bool(self.values["inference mode"])))
            _guards[-1].__enter__()
        if str(torch.get_default_device()) != self.values["default device"]:
            device = self.values["default device"]
            torch.set_default_device(None if device == "cpu" else str(device))
        if _folder() != self.values["working folder"]:
            with suppress(OSError):  # it may be gone
                os.chdir(str(self.values["working folder"]))


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Restore the process's state at the end, whatever happened."""
    before = ProcessState.capture()
    try:
        yield
    finally:
        before.restore()


def _restore_autocast(values: dict[str, object]) -> None:
    for kind in _autocast_kinds():
        setting = values[f"autocast on {kind}"]
        assert isinstance(setting, tuple)
        torch.set_autocast_enabled(kind, setting[0])
        torch.set_autocast_dtype(kind, setting[1])
    torch.clear_autocast_cache()


def _autocast_kinds() -> tuple[str, ...]:
    return ("cpu", "cuda")


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


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
        "anomaly detection": torch.is_anomaly_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default device": str(torch.get_default_device()),
        "recursion limit": sys.getrecursionlimit(),
        "working folder": _folder(),
        **{
            f"autocast on {kind}": (
                torch.is_autocast_enabled(kind),
                torch.get_autocast_dtype(kind),
            )
            for kind in _autocast_kinds()
        },
    }


def _cuda_streams() -> list[torch.Tensor]:
    # asking for a stream would start the device; a stream that was never used has no state
    if not torch.cuda.is_initialized():
        return []
    return torch.cuda.get_rng_state_all()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
