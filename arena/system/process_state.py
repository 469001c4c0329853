"""The state that all players of one process share: captured, compared, restored.

A player that leaves gradients off, another default dtype or a patched function behind would break
or bend the episode of the next one.
"""

import hashlib
import random
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch

from arena.system import left_threads
from arena.system.settings import SETTINGS
from arena.system.shared_code import SharedCode
from envs.loading.siblings import PREFIX
from envs.plain_tensors import without_overrides

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A snapshot of what is global to a process.

    Attributes:
        values: of the settings, by name.
        digests: of the random streams, by name.
        streams: what is needed to set them back.
        modules: that are imported, by name.
        code: that players share.
        threads: that are alive.
    """

    values: dict[str, object]
    digests: dict[str, object]
    streams: tuple[object, ...]
    modules: dict[str, ModuleType]
    code: SharedCode
    threads: frozenset[threading.Thread]

    @classmethod
    def capture(cls) -> "ProcessState":
        """Take a snapshot."""
        code = SharedCode.capture()
        with without_overrides():  # a mode that a player left on would see what follows
            # a tuple of the generator's kind, its words, and where it stands in them
            words = np.random.get_state()
            streams = (random.getstate(), words, torch.get_rng_state(), _cuda_streams())
            values = {name: setting.read() for name, setting in SETTINGS.items()}
            threads = left_threads.running()
            return cls(values, _digests(streams), streams, dict(sys.modules), code, threads)

    def changes_since(self, before: "ProcessState") -> tuple[str, ...]:
        """Name what is no longer as it was `before`."""
        moved = [name for name, value in self.digests.items() if value != before.digests.get(name)]
        return (*moved, *self.settings_changed_since(before))

    def settings_changed_since(self, before: "ProcessState") -> tuple[str, ...]:
        """Name what is no longer as it was `before`, random streams left out."""
        named: list[str] = []
        for name, setting in SETTINGS.items():
            if setting.told:
                named += _changed(name, before.values[name], self.values[name])
        named += [f"module {name}" for name in _replaced(before.modules, self.modules)]
        threads = {left_threads.name_of(one) for one in left_threads.left_since(before.threads)}
        return (*named, *self.code.changes_since(before.code), *sorted(threads))

    def restore(self) -> None:
        """Set everything back, so that a player spoils nothing that comes later."""
        left_threads.left_since(self.threads)
        for name in _replaced(self.modules, dict(sys.modules)):
            if name in self.modules:
                sys.modules[name] = self.modules[name]
            else:
                del sys.modules[name]
        self.code.restore()
        python, words, cpu, cuda = self.streams
        random.setstate(python)  # type: ignore[arg-type]
        np.random.set_state(words)  # type: ignore[arg-type]
        torch.set_rng_state(cpu)  # type: ignore[arg-type]
        if cuda:
            torch.cuda.set_rng_state_all(cuda)  # type: ignore[arg-type]
        for name, setting in SETTINGS.items():
            if setting.read() != self.values[name]:
                setting.write(self.values[name])


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Restore the process's state at the end, whatever happened."""
    before = ProcessState.capture()
    try:
        yield
    finally:
        before.restore()


def _changed(name: str, then: object, now: object) -> list[str]:
    """Name a setting that has another value; of a mapping, the keys that have."""
    if not isinstance(then, Mapping) or not isinstance(now, Mapping):
        return [] if then == now else [name]
    keys = sorted({*then, *now})
    return [f"{name} {key}" for key in keys if then.get(key, _ABSENT) != now.get(key, _ABSENT)]


def _replaced(then: Mapping[str, ModuleType], now: Mapping[str, ModuleType | None]) -> list[str]:
    """List imported modules that are gone or others, and names whose import is blocked since.

    The files of players are imported anew when they were edited.
    """
    found = [name for name, module in then.items()
             if now.get(name) is not module and not name.startswith(PREFIX)]  # fmt: skip
    return found + [name for name, module in now.items() if module is None and name not in then]


def _digests(streams: tuple[object, ...]) -> dict[str, object]:
    python, words, cpu, cuda = streams
    assert isinstance(cpu, torch.Tensor)
    return {
        "random stream of random": hash(python),
        "random stream of NumPy": _digest(words[1].tobytes()) + repr(words[2:]),  # type: ignore[index]
        "random stream of torch": _digest(cpu.numpy().tobytes()),
        "random stream of CUDA": tuple(_digest(s.numpy().tobytes()) for s in cuda),  # type: ignore[attr-defined]
    }


def _cuda_streams() -> list[torch.Tensor]:
    # asking for a stream would start the device; a stream that was never used has no state
    if not torch.cuda.is_initialized():
        return []
    return torch.cuda.get_rng_state_all()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
