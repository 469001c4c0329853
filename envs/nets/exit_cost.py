"""What each exit costs: counted once per architecture on tensors without data, then cached.

Counted are convolutions, linear layers and attention products (1 MAC = 2 FLOP); normalisation,
activation and pooling are not. Beside MACs stand the two other terms that explain the time an
answer takes: the number of kernels launched and the bytes of weights read.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from envs.nets.multi_exit import MultiExit
from envs.nets.staged import Staged


@dataclass(frozen=True, slots=True)
class ExitProfile:
    """What one image costs by the exit it leaves at; every field is cumulative, one per exit.

    An image that leaves at exit e has run the backbone up to there and the heads of exits 0 to
    e; the last exit has run everything.

    Attributes:
        macs: multiply-accumulates of one image.
        ops: tensor operations run for a batch, views not counted; on an accelerator, kernels.
        weight_bytes: bytes of weights and normalisation statistics read for a batch.
    """

    macs: tuple[int, ...]
    ops: tuple[int, ...]
    weight_bytes: tuple[int, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """MACs by exit relative to the last exit's, in (0, 1]."""
        return tuple(macs / self.macs[-1] for macs in self.macs)

    @property
    def undivided(self) -> "ExitProfile":
        """The costs where every exit runs, whichever answers."""
        every = ((costs[-1],) * len(costs) for costs in (self.macs, self.ops, self.weight_bytes))
        return ExitProfile(*every)


Formulas = Mapping[Any, Callable[..., int]]
"""`Any`: torch does not export the type of an operation."""

N = TypeVar("N", bound=nn.Module)
T = TypeVar("T")
_PROFILES: dict[object, ExitProfile] = {}


def profile(network: MultiExit) -> ExitProfile:
    """Return what each exit of a network costs when serving.

    Counts on the first call for a structure, which takes milliseconds to seconds, and answers
    from memory afterwards. The network is neither changed nor run.
    """
    key = structure_of(network)
    if key not in _PROFILES:
        _PROFILES[key] = profile_by(network, {})
    return _PROFILES[key]


def profile_by(network: MultiExit, formulas: Formulas) -> ExitProfile:
    """Count with other formulas for some operations; not cached.

    Args:
        network: any.
        formulas: as `FlopCounterMode` takes them: by operation, FLOP from the shapes of its
            arguments. Operations that it does not name are counted as usual.
    """
    return on_outline(network, partial(_count, formulas=formulas))


def on_outline(network: N, count: Callable[[N], T]) -> T:
    """Count on a copy of a network that holds shapes alone.

    Code of others may read values as it runs; then the copy holds the weights too.
    """
    try:
        return count(without_data(network))
    except (RuntimeError, NotImplementedError):  # tensors without data have no values
        return count(_silent(copy.deepcopy(network)))


def backbone_macs(network: Staged) -> tuple[int, ...]:
    """Count cumulative MACs of one image after each stage, and after the classifier.

    No head is counted, so that architectures can be compared. Not cached.
    """
    return on_outline(network, _backbone_macs)


def _backbone_macs(bare: Staged) -> tuple[int, ...]:
    features, macs = blank_image(bare), []
    for stage in bare.stages:
        features, cost = _run(stage, features)
        macs.append(cost[0])
    macs.append(_run(bare.classify, features)[1][0])
    return tuple(accumulate(macs))


def macs_of(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Count MACs of one forward pass of any network on one input of a shape. Not cached."""

    def count(bare: nn.Module) -> int:
        place = next(bare.parameters()).device
        return _run(bare, torch.zeros(1, *shape, device=place), {})[1][0]

    return on_outline(network, count)


class _OpCounter(TorchDispatchMode):
    """Counts operations that compute; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self,
        func: Any,  # an OpOverload; torch does not export its type
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.count += not (func.is_view or func in _FREE)
        return func(*args, **(kwargs or {}))


_FREE = {torch.ops.aten._unsafe_view.default, torch.ops.aten.detach.default}


def _count(network: MultiExit, formulas: Formulas) -> ExitProfile:
    features, rows, trunk = blank_image(network.backbone), [], (0, 0, 0)
    answers = (0, 0, 0)
    for e in range(network.num_exits):
        features, cost = _run(partial(network.run_segment, e), features, formulas)
        trunk = _add(trunk, (*cost, _segment_bytes(network, e)))
        _, cost = _run(partial(network.logits, e), features, formulas)
        answers = _add(answers, (*cost, _answer_bytes(network, e)))
        rows.append(_add(trunk, answers))
    macs, ops, weight_bytes = zip(*rows, strict=True)
    return ExitProfile(macs, ops, weight_bytes)


def _run(
    run: Callable[[Tensor], Tensor], features: Tensor, formulas: Formulas | None = None
) -> tuple[Tensor, tuple[int, int]]:
    """Run a part on tensors without data; return its output and (MACs, operations)."""
    from torch.utils.flop_counter import FlopCounterMode  # loads a compiler

    flops = FlopCounterMode(display=False, custom_mapping=dict(formulas or {}))
    ops = _OpCounter()
    # the operation counter is outermost, so that it sees what the other one passes on
    with torch.no_grad(), ops, flops:
        output = run(features)
    return output, (flops.get_total_flops() // 2, ops.count)


def _add(left: tuple[int, int, int], right: tuple[int, int, int]) -> tuple[int, int, int]:
    return left[0] + right[0], left[1] + right[1], left[2] + right[2]


def _segment_bytes(network: MultiExit, e: int) -> int:
    first, last = network.segments[e]
    return sum(_bytes(network.backbone.stages[stage]) for stage in range(first, last))


def _answer_bytes(network: MultiExit, e: int) -> int:
    if e == network.num_exits - 1:
        return _bytes(network.backbone.neck) + _bytes(network.backbone.classifier)
    return sum(weights.nbytes for weights in network.head(e).served_parameters())


def _bytes(module: nn.Module) -> int:
    tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
    return sum(tensor.nbytes for tensor in tensors)


def blank_image(network: Staged) -> Tensor:
    """Return one black image, (1, c, h, w), where a network lives."""
    place = next(chain(network.parameters(), network.buffers())).device
    return torch.zeros(1, *network.image_shape, device=place)


def without_data(network: N) -> N:
    """Copy a network's structure in eval mode; its tensors become shapes, no weight is copied.

    Hooks of the original do not run on the copy.
    """
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    # deepcopy takes what the memo holds for an object instead of copying the object
    memo: dict[int, object] = {id(tensor): _shape_of(tensor) for tensor in tensors}
    return _silent(copy.deepcopy(network, memo))


def _silent(copied: N) -> N:
    """Put a copy into evaluation mode, and take its hooks off."""
    for module in copied.eval().modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
    return copied


def _shape_of(tensor: Tensor) -> Tensor:
    shape = tensor.detach().to("meta")
    return nn.Parameter(shape, requires_grad=False) if isinstance(tensor, nn.Parameter) else shape


def structure_of(network: MultiExit) -> object:
    """Describe all that a cost depends on: layers with their settings, shapes and dtypes."""
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    return (
        network.image_shape,
        network.exit_stages,
        # of a network of others, layers do not tell how its code connects them
        network.backbone.architecture,
        network.backbone.stage_names,
        repr(sorted(network.backbone.params.items())),
        repr(network),
        tuple((tuple(tensor.shape), tensor.dtype) for tensor in tensors),
    )
