"""A network of an ONNX file, run by onnxruntime: it answers, and nothing else can be done with it.

Both libraries are imported when one is read: `onnx` to count its cost, `onnxruntime` to run it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs.errors import DataMissing, ScenarioError, one_line
from envs.nets.fixed_batch import in_batches
from envs.nets.onnx_cost import OnnxCost, cost_of

# `Any` in this file: what the libraries hand out.

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
          "tensor(uint8)": np.uint8}  # fmt: skip


class OnnxNetwork(nn.Module):
    """Answers images by onnxruntime, on the processor.

    On tensors without data it runs as many operations, of the same cost in all, as the file has.

    Args:
        path: the file.
        image_shape: (channels, height, width) of the images that it will be asked.
        num_classes: K.

    Attributes:
        file: (bytes,) uint8, the file itself, so that copies and digests of weights hold it.

    Raises:
        DataMissing: it cannot be read.
        ScenarioError: a library is missing, or it does not take one tensor of such images.
    """

    file: Tensor

    def __init__(self, path: Path, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        data = path.read_bytes()
        self.register_buffer("file", torch.frombuffer(bytearray(data), dtype=torch.uint8))
        self._session: Any = None
        self.num_classes = num_classes
        session = self._opened(path)
        given, *others = session.get_inputs()
        axes = tuple(given.shape)
        if others or len(axes) != 4 or given.type not in _TYPES:
            raise ScenarioError(
                f"{path}: expected one input (n, c, h, w) of floats or bytes, got "
                f"{[(one.name, one.type, one.shape) for one in (given, *others)]}"
            )
        self.input = given.name
        self.dtype: np.dtype[Any] = np.dtype(_TYPES[given.type])
        self.channels_last = axes[1] != image_shape[0] and axes[3] == image_shape[0]
        self.batch = axes[0] if isinstance(axes[0], int) else None
        self.output = _output_of(session, num_classes, path)
        channels, height, width = image_shape
        seen = (height, width, channels) if self.channels_last else image_shape
        for axis, wanted in zip(axes[1:], seen, strict=True):
            if isinstance(axis, int) and axis != wanted:
                raise ScenarioError(
                    f"{path} takes images {axes[1:]}, and the data has {seen}; give the data that "
                    f"size, or export the network for it"
                )
        self._try(path, image_shape)
        self.cost: OnnxCost = cost_of(data, (1, *seen), path)

    def forward(self, images: Tensor) -> object:
        """Return what the file's output is for (n, c, h, w) images."""
        if images.is_meta:
            return self._imitate(images)
        return in_batches(self._run, images, self.batch)

    def _run(self, images: Tensor) -> Tensor:
        session = self._opened(None)
        given = images.permute(0, 2, 3, 1) if self.channels_last else images
        array = given.detach().cpu().numpy()
        if self.dtype == np.uint8:
            array = (array * 255).round().clip(0, 255)
        (answer,) = session.run([self.output], {self.input: array.astype(self.dtype)})
        return torch.from_numpy(np.asarray(answer, dtype=np.float32)).to(images.device)

    def _try(self, path: Path, image_shape: tuple[int, int, int]) -> None:
        """Ask for black images, because a shape that does not fit would hide the cost as well."""
        try:
            self._run(torch.zeros(self.batch or 1, *image_shape))
        except Exception as error:  # the library has no public base of its errors
            raise ScenarioError(
                f"{path} does not take images {image_shape}: {one_line(error)[:200]}"
            ) from error

    def _imitate(self, images: Tensor) -> Tensor:
        made = images.new_empty(len(images), self.cost.macs) @ images.new_empty(self.cost.macs, 1)
        for _ in range(self.cost.operations - 1):
            made = made + 0
        return made.expand(-1, self.num_classes)

    def _opened(self, path: Path | None) -> Any:
        """Start onnxruntime when it is first asked; `path` is for the message."""
        if self._session is None:
            try:
                import onnxruntime
            except ImportError as error:
                raise ScenarioError(
                    f"{path} needs onnxruntime; pip install 'fortress-arena[onnx]'"
                ) from error
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 4  # what is wrong is raised as well
            data = self.file.cpu().numpy().tobytes()
            try:
                self._session = onnxruntime.InferenceSession(
                    data, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # the library has no public base of its errors
                raise DataMissing(
                    f"{path} is no ONNX file that can be run: {one_line(error)[:200]}"
                ) from error
        return self._session

    def __getstate__(self) -> dict[str, Any]:
        """Leave the running session out: it belongs to this process."""
        return {**self.__dict__, "_session": None}


def _output_of(session: Any, num_classes: int, path: Path) -> str:
    """Find the output: the only one, or the only one that has as many columns as classes."""
    outputs = session.get_outputs()
    fitting = [one for one in outputs if len(one.shape) == 2 and one.shape[1] == num_classes]
    if len(outputs) > 1 and len(fitting) != 1:
        raise ScenarioError(
            f"{path}: expected one output (n, {num_classes}), got "
            f"{[(one.name, one.shape) for one in outputs]}"
        )
    return str((fitting or outputs)[0].name)
