"""Counts what one image through an ONNX graph costs, from the shapes of its operations."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from envs.errors import DataMissing, ScenarioError, one_line

# `Any` in this file: messages of the library.

Shape = tuple[int, ...]


class OnnxCost(NamedTuple):
    """What one image costs.

    Attributes:
        macs: multiply-accumulates of convolutions and matrix products, at least 1.
        operations: nodes of the graph.
    """

    macs: int
    operations: int


def cost_of(data: bytes, input_shape: Sequence[int], path: Path) -> OnnxCost:
    """Count the cost of one image.

    Args:
        data: the file.
        input_shape: of one image, (1, ...), as the graph takes it.
        path: for messages.

    Raises:
        DataMissing: the file cannot be read.
        ScenarioError: the library is missing, or shapes depend on axes that are not fixed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ScenarioError(f"{path} needs onnx; pip install 'fortress-arena[onnx]'") from error
    try:
        model = onnx.load_from_string(data)
        _fix_input(model, input_shape)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # of protobuf and of the library
        raise DataMissing(f"{path}: its graph cannot be read: {one_line(error)[:200]}") from error
    shapes = _shapes(inferred.graph)
    macs = sum(_macs(node, shapes, path) for node in inferred.graph.node)
    return OnnxCost(max(macs, 1), max(len(inferred.graph.node), 1))


def _fix_input(model: Any, shape: Sequence[int]) -> None:
    """Write the shape of one image over the input's, and forget shapes that came with the file."""
    del model.graph.value_info[:]
    weights = {one.name for one in model.graph.initializer}
    for given in model.graph.input:
        if given.name not in weights:
            for axis, size in zip(given.type.tensor_type.shape.dim, shape, strict=True):
                axis.Clear()
                axis.dim_value = size
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _shapes(graph: Any) -> dict[str, Shape | None]:
    """Collect shapes by name; None where an axis is not fixed."""
    shapes: dict[str, Shape | None] = {one.name: tuple(one.dims) for one in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            sizes = [axis.dim_value if axis.HasField("dim_value") else 0 for axis in kind.shape.dim]
            shapes[value.name] = None if 0 in sizes else tuple(sizes)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    shapes[node.output[0]] = tuple(attribute.t.dims)
    return shapes


def _convolution(left: Shape, weights: Shape, output: Shape) -> int:
    return math.prod(output) * math.prod(weights[1:])  # weights: (out, in / groups, kernel...)


def _transposed(left: Shape, weights: Shape, output: Shape) -> int:
    return math.prod(left) * math.prod(weights[1:])  # weights: (in, out / groups, kernel...)


def _product(left: Shape, right: Shape, output: Shape) -> int:
    return math.prod(output) * left[-1]


_COUNTED: Mapping[str, tuple[Callable[[Shape, Shape, Shape], int], tuple[int, int]]] = {
    "Conv": (_convolution, (0, 1)),
    "ConvInteger": (_convolution, (0, 1)),
    "QLinearConv": (_convolution, (0, 3)),
    "ConvTranspose": (_transposed, (0, 1)),
    "MatMul": (_product, (0, 1)),
    "MatMulInteger": (_product, (0, 1)),
    "QLinearMatMul": (_product, (0, 3)),
}
"""How an operation is counted, and which of its inputs are the factors."""

_UNCOUNTED = ("Einsum", "If", "Loop", "Scan", "LSTM", "GRU", "RNN")


def _macs(node: Any, shapes: Mapping[str, Shape | None], path: Path) -> int:
    if node.op_type in _UNCOUNTED or node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
        raise ScenarioError(
            f"{path}: what '{node.op_type}' costs cannot be counted; export the network without it"
        )
    if node.op_type == "Gemm":
        return _gemm(node, _known(node, node.input[0], shapes, path),
                     _known(node, node.output[0], shapes, path))  # fmt: skip
    if node.op_type not in _COUNTED:
        return 0
    count, factors = _COUNTED[node.op_type]
    left, right = (_known(node, node.input[one], shapes, path) for one in factors)
    return count(left, right, _known(node, node.output[0], shapes, path))


def _gemm(node: Any, left: Shape, output: Shape) -> int:
    transposed = any(one.name == "transA" and one.i for one in node.attribute)
    return math.prod(output) * left[0 if transposed else 1]


def _known(node: Any, name: str, shapes: Mapping[str, Shape | None], path: Path) -> Shape:
    shape = shapes.get(name)
    if shape is None:
        raise ScenarioError(
            f"{path}: the shape of '{name}' at '{node.op_type}' depends on dynamic axes, so that "
            f"its cost cannot be counted; export the network with a fixed height and width"
        )
    return shape
