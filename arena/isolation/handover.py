"""How a clone leaves the attacker's process: as weights, or as an exported program.

An isolated attacker's process hands over, the referee's receives. What is kept of a clone beside
the log has the same form.
"""

import json
import math
import operator
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from arena.isolation import operators
from arena.isolation.program import IMAGES, Program
from envs.errors import PlayerError, one_line
from envs.training.evaluation import flags_restored, predict

# `Any` in this file: nodes and arguments of an exported graph.

NEITHER = (
    "an isolated attacker's clone is the scenario's own network or what torch.export can export"
)


class HandedOver(NamedTuple):
    """A clone on its way out.

    Attributes:
        weights: in the format of safetensors.
        steps: the program, in JSON; empty where the weights are those of the scenario's network.
    """

    weights: bytes
    steps: bytes


class Exporter:
    """Hands clones over; an exported program is used again while it answers as the clone does.

    Args:
        own: the scenario's network, whatever its weights.
        image_shape: (c, h, w) of an image.
    """

    def __init__(self, own: nn.Module, image_shape: tuple[int, int, int]) -> None:
        self._own, self._shape = own, image_shape
        self._steps: bytes | None = None
        self._names: dict[str, str] = {}

    def hand_over(self, clone: object) -> HandedOver:
        """Write a clone.

        Raises:
            PlayerError: it is neither the scenario's network nor a program; one line.
        """
        if not isinstance(clone, nn.Module):
            raise PlayerError(f"expected a torch module as clone, got {type(clone).__name__}")
        if type(clone) is Program:  # it was handed over before
            return HandedOver(_saved(clone.weights), clone.text)
        if _is_own(clone, self._own):
            return HandedOver(_saved(clone.state_dict()), b"")
        with warnings.catch_warnings(), flags_restored(clone), torch.no_grad():
            warnings.simplefilter("ignore")
            clone.eval()
            if self._steps is not None and self._still_fits(clone):
                return HandedOver(self._weights(clone), self._steps)
            return self._export(clone)

    def _weights(self, clone: nn.Module) -> bytes:
        state = {**dict(clone.named_parameters()), **dict(clone.named_buffers())}
        return _saved({name: state[theirs] for name, theirs in self._names.items()})

    def _still_fits(self, clone: nn.Module) -> bool:
        """Whether the last program, with the weights of now, answers as the clone does."""
        assert self._steps is not None
        device = next((p.device for p in clone.parameters()), torch.device("cpu"))
        probe = torch.rand(4, *self._shape, generator=torch.Generator().manual_seed(0)).to(device)
        try:
            program = _program(HandedOver(self._weights(clone), self._steps), device)
            return torch.equal(predict(program, probe), predict(clone, probe))
        except Exception:  # another network than the last
            return False

    def _export(self, clone: nn.Module) -> HandedOver:
        device = next((p.device for p in clone.parameters()), torch.device("cpu"))
        try:
            exported = torch.export.export(
                clone,
                (torch.full((4, *self._shape), 0.5, device=device),),
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            )
            tensors, names, steps = _described(exported)
        except (Exception, SystemExit, GeneratorExit) as error:  # a clone raises what it likes
            raise PlayerError(f"{NEITHER}; {one_line(error)[:300]}") from error
        # constants live in the program alone, and may be others the next time
        self._names, self._steps = names, steps if len(names) == len(tensors) else None
        return HandedOver(_saved(tensors), steps)


def _is_own(clone: nn.Module, own: nn.Module) -> bool:
    """Whether a clone is the scenario's network and nothing was hung on it."""
    if type(clone) is not type(own) or repr(clone) != repr(own):
        return False
    if _outline(clone.state_dict()) != _outline(own.state_dict()):
        return False
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    return not any(
        "forward" in vars(part) or any(vars(part).get(name) for name in hooks)
        for part in clone.modules()
    )


def _outline(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}


def _saved(tensors: Mapping[str, Tensor]) -> bytes:
    copies = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    return safetensors.torch.save(copies)


def _described(exported: Any) -> tuple[dict[str, Tensor], dict[str, str], bytes]:
    """Return the tensors of an exported program, the clone's names of them, and its steps."""
    signature = exported.graph_signature
    of_clone = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    tensors: dict[str, Tensor] = {}
    for name, theirs in of_clone.items():
        found = exported.state_dict.get(theirs, exported.constants.get(theirs))
        tensors[name] = found
    for name, theirs in constants.items():
        tensors[name] = exported.constants[theirs]
    known = dict.fromkeys(tensors) | dict.fromkeys(signature.user_inputs)
    (images,) = signature.user_inputs
    if not exported.call_spec.out_spec.is_leaf():  # a tuple of one, say, which torch flattens
        raise PlayerError("it answers something else than one tensor")
    (output,) = signature.user_outputs
    steps = []
    for node in _needed(exported.graph):
        if node.op == "placeholder":
            if node.name not in known:
                raise PlayerError(f"it takes {node.name}")
            continue
        options = {key: _encoded(value, images) for key, value in node.kwargs.items()}
        steps.append([node.name, _target(node), _encoded(node.args, images), options])
    text = json.dumps({"steps": steps, "output": _renamed(output, images)}, allow_nan=False)
    return tensors, of_clone, text.encode()


def _needed(graph: Any) -> list[Any]:
    """Return the nodes the output depends on, and those that write in place, in their order."""
    needed = set()
    for node in reversed(list(graph.nodes)):
        if node.op == "output":
            needed |= set(node.all_input_nodes)
        elif node in needed or _writes(node):
            needed.add(node)
            needed |= set(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed]


def _writes(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _target(node: Any) -> str:
    if node.target is operator.getitem:
        return operators.GETITEM
    for name, function in operators.NUMBERS.items():
        if node.target is function:
            return f"number.{name}"
    target = str(node.target)
    if node.op != "call_function" or operators.find(target) is None:
        raise PlayerError(f"it uses {target[:80]}, which is not scored")
    return target


def _renamed(name: str, images: str) -> str:
    return IMAGES if name == images else name


def _encoded(value: Any, images: str) -> Any:
    """Write an argument as JSON; see `Program` for what tables stand for."""
    if isinstance(value, torch.fx.Node):
        return {"value": _renamed(value.name, images)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_encoded(item, images) for item in value]
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.memory_format):
        return {"format": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": None}
    if isinstance(value, torch.layout):
        return {"layout": None}
    raise PlayerError(f"it has an argument of type {type(value).__name__}")


def received(clone: HandedOver, network: nn.Module, device: torch.device) -> nn.Module:
    """Build a module of what came, that runs no code of the attacker's.

    Args:
        clone: what came; every byte of it may be anything.
        network: the scenario's, which gets the weights that came.
        device: where it is scored.

    Raises:
        PlayerError: it is neither weights of that network nor a program.
    """
    if clone.steps:
        return _program(clone, device)
    state = _loaded(clone.weights)
    expected, came = _outline(network.state_dict()), _outline(state)
    if expected != came:
        odd = sorted(name for name in {*expected, *came} if expected.get(name) != came.get(name))
        raise PlayerError(
            f"{NEITHER}; these weights are not that network's: {ascii(odd[0])[:80]} differs"
        )
    network.load_state_dict(state)
    return network


def _program(clone: HandedOver, device: torch.device) -> Program:
    return Program(clone.steps, _loaded(clone.weights), device)


def _loaded(data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # of the format's parser, which takes any bytes
        raise PlayerError(
            f"{NEITHER}; its weights cannot be read: {one_line(error)[:160]}"
        ) from error
