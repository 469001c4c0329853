"""Keeps the clones of episodes, and makes networks of them that run none of the attackers' code.

A clone is one file: its weights, and either the name of the scenario's network or, where it is
another one, the list of operators that it computes; see `arena.isolation.handover`.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from arena.isolation.handover import Exporter, HandedOver, received
from arena.isolation.program import Program
from arena.log import artifacts
from arena.log.reader import LogReader
from arena.log.rows import ArtifactRow
from arena.registry.trust import require_trust
from envs.atomic_file import whole_file
from envs.errors import ArenaError, LogError, PlayerError, one_line
from envs.nets import registry

CLONE = "clone"
"""Kind of the artifact."""

SUFFIX = ".safetensors"


class CloneForm(NamedTuple):
    """The scenario's network, without weights.

    Attributes:
        use: its name.
        params: of the network (hence `Any`).
        num_classes: K.
        image_shape: (channels, height, width).
    """

    use: str
    params: dict[str, Any]
    num_classes: int
    image_shape: tuple[int, int, int]


def keep_clone(
    where: str, episode_id: str, clone: nn.Module, own: nn.Module, form: CloneForm
) -> ArtifactRow | None:
    """Write a clone beside the log.

    Args:
        where: the log.
        episode_id: whose clone.
        clone: as it was scored.
        own: the scenario's network, whatever its weights.
        form: of that network.

    Returns:
        The row of the file; None where the log is no file.

    Raises:
        LogError: the disk takes no more.
        PlayerError: neither the scenario's network nor what `torch.export` can export.
    """
    root = artifacts.folder_of(where)
    if root is None:
        return None
    handed = Exporter(own, form.image_shape).hand_over(clone)
    told = {"form": json.dumps(form._asdict()), "steps": handed.steps.decode()}
    path = root / episode_id / f"{CLONE}{SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_bytes(safetensors.torch.save(safetensors.torch.load(handed.weights), told))
    except OSError as error:
        raise LogError(f"{path}: {error.strerror or error}") from error
    return artifacts.describe(where, path, CLONE)


def kept_clone(log: LogReader, episode_id: str) -> Path:
    """Return the file of an episode's clone.

    Raises:
        LogError: none was kept, or the file is gone or was altered.
    """
    rows = [row for row in log.artifacts(episode_id) if row.kind == CLONE]
    if not rows:
        raise LogError(
            f'episode {episode_id} has no clone; keep = ["clone"] in a scenario stores those of '
            f"its episodes"
        )
    path = artifacts.locate(log.where, episode_id, rows[-1].path)
    if not path.is_file():
        raise LogError(f"{path} is gone; the log had the clone of {episode_id} there")
    if artifacts.digest(path) != rows[-1].sha256:
        raise LogError(f"{path} was altered since episode {episode_id} ended")
    return path


def load_clone(path: Path, *, trust_plugins: bool = False) -> nn.Module:
    """Make a network of a file that `keep_clone` wrote.

    Args:
        path: of the file.
        trust_plugins: whether a Python file or module that it names as the scenario's network may
            be imported.

    Returns:
        The clone in evaluation mode, on the CPU: (n, c, h, w) in [0, 1] to (n, K) logits.

    Raises:
        ArenaError: it is no such file, its network is not there, or is of code not trusted.
    """
    return _network(path, *_read(path), trust_plugins=trust_plugins)


def _read(path: Path) -> tuple[CloneForm, HandedOver]:
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
        form, steps = CloneForm(**json.loads(told["form"])), told["steps"].encode()
        channels, height, width = form.image_shape  # a list, in JSON
        return form._replace(image_shape=(channels, height, width)), HandedOver(
            path.read_bytes(), steps
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArenaError(f"{path}: expected a clone that was kept by the arena") from error


def _network(path: Path, form: CloneForm, kept: HandedOver, *, trust_plugins: bool) -> nn.Module:
    network: nn.Module = nn.Identity()
    if not kept.steps:
        if not trust_plugins:
            require_trust(form._asdict())
        network = registry.build(
            form.use,
            num_classes=form.num_classes,
            image_shape=form.image_shape,
            generator=torch.Generator(),
            **form.params,
        )
    try:
        return received(kept, network, torch.device("cpu")).eval()
    except PlayerError as error:
        raise ArenaError(f"{path}: {error}") from error


def export_clone(path: Path, out: Path, *, trust_plugins: bool = False) -> None:
    """Write a kept clone as a program of `torch.export`, for any number of images.

    Args:
        path: of the kept clone.
        out: of the program.
        trust_plugins: see `load_clone`.

    Raises:
        ArenaError: as `load_clone`, or it cannot be exported.
    """
    form, kept = _read(path)
    clone = _network(path, form, kept, trust_plugins=trust_plugins)
    sizes = ({0: torch.export.Dim("n", min=1)},)
    example = torch.zeros(2, *form.image_shape)
    if isinstance(clone, Program):
        clone = _Unlimited(clone)
    try:
        program = torch.export.export(clone, (example,), dynamic_shapes=sizes)
    except Exception as error:  # of torch.export, which has many of its own
        raise ArenaError(f"{path}: cannot be exported: {one_line(error)[:200]}") from error
    with whole_file(out) as part, part.open("wb") as file:
        torch.export.save(program, file)


class _Unlimited(nn.Module):
    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program

    def forward(self, images: Tensor) -> object:
        return self._program.unlimited(images)
