"""What the process of an attacker is told when it starts, and nothing else of the episode."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch

from arena.isolation.channel import write_at
from envs.data.images import ImageSet
from envs.types import ThreatModel

# `Any` in this file: JSON as it was parsed, and parameters of players.


class Player(NamedTuple):
    """An attacker or a wrapper: its name or file, and its parameters."""

    use: str
    params: Mapping[str, Any]


class Network(NamedTuple):
    """The scenario's clone, before it learns.

    Attributes:
        use, params: its name and parameters.
        mean, std: that it normalises images by, by channel.
        weights: a file that it starts from; "" where they are drawn.
    """

    use: str
    params: Mapping[str, Any]
    mean: Sequence[float]
    std: Sequence[float]
    weights: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """What is attacked, and with what.

    Attributes:
        attacker: who attacks.
        name: how the scenario calls it.
        wrappers: what stands before the oracle.
        clone: the scenario's network.
        threat: what may be asked.
        remaining: images that may still be asked.
        device: "cpu", "cuda:0".
        streams: states of its random streams, in hexadecimal: "attacker" and "clone".
        pool: how the pool lies in its file; None without one.
        memory: bytes it may take beyond the libraries.
        settings: of torch: threads, matrix precision, deterministic algorithms.
    """

    attacker: Player
    name: str
    wrappers: tuple[Player, ...]
    clone: Network
    threat: ThreatModel
    remaining: int
    device: str
    streams: Mapping[str, str]
    pool: Mapping[str, Any] | None
    memory: int
    settings: Mapping[str, Any]

    def as_fields(self) -> dict[str, Any]:
        """Return it as values that JSON writes."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "threat": asdict(self.threat)
        }

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> "Job":
        """Read it from a message of the arena."""
        values = {field.name: message[field.name] for field in fields(cls)}
        threat = dict(values["threat"])
        threat["image_shape"] = tuple(threat["image_shape"])
        return cls(
            **values
            | {
                "attacker": Player(*values["attacker"]),
                "wrappers": tuple(Player(*one) for one in values["wrappers"]),
                "clone": Network(*values["clone"]),
                "threat": ThreatModel(**threat),
            }
        )


def state_text(generator: torch.Generator) -> str:
    """Write where a random stream stands."""
    return generator.get_state().numpy().tobytes().hex()


def generator_at(text: str, device: torch.device) -> torch.Generator:
    """Make a random stream that stands there."""
    generator = torch.Generator(device=device)
    generator.set_state(torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8))
    return generator


def pool_outline(pool: ImageSet) -> dict[str, Any]:
    """Describe a pool; its pixels, then its labels, lie in a file of their own."""
    return {
        "shape": list(pool.pixels.shape),
        "num_classes": pool.num_classes,
        "name": pool.name,
        "classes": list(pool.classes),
    }


def labels_place(pixel_bytes: int) -> int:
    """Return where the labels of a pool begin in its file: behind the pixels, aligned."""
    return -(-pixel_bytes // 8) * 8


def pool_file(pool: ImageSet | None) -> int:
    """Write a pool into a file in memory; returns its descriptor, -1 without a pool."""
    if pool is None:
        return -1
    file = os.memfd_create("arena-pool")
    pixels = pool.pixels.cpu().contiguous().numpy().reshape(-1)
    labels = pool.labels.cpu().contiguous().numpy()
    write_at(file, pixels.data, 0)
    write_at(file, labels.data.cast("B"), labels_place(pixels.nbytes))
    return file


def torch_settings() -> dict[str, Any]:
    """Read the settings of torch on which results depend."""
    return {
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def apply_settings(settings: Mapping[str, Any]) -> None:
    """Set them in this process."""
    torch.set_num_threads(settings["threads"])
    torch.set_float32_matmul_precision(settings["precision"])
    if settings["deterministic"]:  # setting it loads a compiler, which takes seconds
        torch.use_deterministic_algorithms(True)
