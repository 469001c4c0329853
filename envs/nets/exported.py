"""A network that torch.export wrote to a file: a graph of operations with its weights."""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from envs.errors import DataMissing, ScenarioError, one_line
from envs.nets.fixed_batch import in_batches

# `Any` in this file: nodes of a graph.


class ExportedNetwork(nn.Module):
    """Runs an exported program, in the mode in which it was exported.

    Args:
        path: a file that `torch.export.save` wrote; reading it may run what it names.

    Raises:
        DataMissing: it cannot be read.
        ScenarioError: the program does not take one tensor of images.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            program = torch.export.load(path)
            inputs = set(program.graph_signature.user_inputs)
            given = [node for node in program.graph.nodes if node.name in inputs]
            self.program = program.module()
        except Exception as error:  # of torch and of what the file names
            raise DataMissing(
                f"{path} is no exported program: expected what torch.export.save writes; "
                f"{one_line(error)[:150]}"
            ) from error
        if len(given) != 1 or len(_shape_of(given[0])) != 4:
            raise ScenarioError(
                f"{path}: expected a program of one input (n, c, h, w), got "
                f"{[tuple(map(str, _shape_of(node))) for node in given]}"
            )
        count = _shape_of(given[0])[0]
        self.batch = count if isinstance(count, int) else None

    def forward(self, images: Tensor) -> object:
        """Answer (n, c, h, w) images as the program does."""
        return in_batches(self.program, images, self.batch)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of this module alone, because a program has one that stays."""
        self.training = mode
        return self


def _shape_of(node: Any) -> tuple[Any, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()
