"""Cuts a network of others into stages behind the layers that its author names.

Layers are named as `torchvision.models.feature_extraction.get_graph_node_names` does: "layer1" is
the last thing that happens inside that module, "layer1.0.add" one operation. A graph can be cut
behind a layer where nothing but that layer's output goes on from there.
"""

import difflib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from envs.errors import ScenarioError, one_line

T = TypeVar("T")
_INPUT = "placeholder"


class NotCuttableError(Exception):
    """A graph cannot be cut there; the message is the reason."""


class Pieces(NamedTuple):
    """A network in stages that run one after another.

    Attributes:
        stages: one that ends at each named layer, and what computes behind the last of them.
        neck: what is left before the classifier, without weights.
        classifier: the last linear layer; nothing where the network does not end in one.
    """

    stages: tuple[nn.Module, ...]
    neck: nn.Module
    classifier: nn.Module


def require_layers(body: nn.Module, names: Iterable[str], known: Iterable[str] = ()) -> None:
    """Check that a network has such layers.

    Args:
        body: the network.
        names: as the author writes them.
        known: names of operations beside those of modules.

    Raises:
        ScenarioError: the first that it does not have, with the nearest that it has.
    """
    there = {name for name, _ in body.named_modules() if name} | set(known)
    for name in names:
        if name not in there:
            close = difflib.get_close_matches(name, sorted(there), n=1, cutoff=0.5)
            tops = ", ".join(child for child, _ in body.named_children())
            hint = f"did you mean '{close[0]}'?" if close else f"its modules: {tops or 'none'}"
            raise ScenarioError(f"exits: the network has no layer '{name}'; {hint}")


def cut(adapted: nn.Module, names: Sequence[str]) -> Pieces:
    """Cut a network behind its layers.

    Args:
        adapted: maps images to (n, K) logits by a network that it holds as `body`; traced in
            evaluation mode. The pieces share its layers.
        names: of layers of the body, in the order in which it runs them.

    Raises:
        ScenarioError: it has no such layer, or runs them in another order.
        NotCuttableError: its code cannot be traced, or more than one value goes on from a layer.
    """
    graph, paths = _traced(adapted)
    assert isinstance(adapted.body, nn.Module)
    require_layers(adapted.body, names, _all_names(paths.values()))
    ends = [_last_node(name, paths) for name in names]
    order = {node: place for place, node in enumerate(graph.nodes)}
    if any(order[a] >= order[b] for a, b in itertools.pairwise(ends)):
        ran = [name for _, name in sorted(zip(map(order.__getitem__, ends), names, strict=True))]
        raise ScenarioError(f"exits: expected the order in which the network runs them: {ran}")
    moving = _dependent(graph)
    segments = _segments(graph, ends, moving)
    _require_cuttable(names, ends, segments, moving)
    parts = [_subgraph(graph, segments, moving, ends, k) for k in range(len(ends) + 1)]
    *stages, rest = (fx.GraphModule(adapted, part) for part in parts)
    return _with_classifier(stages, rest)


def _traced(adapted: nn.Module) -> tuple[fx.Graph, Mapping[fx.Node, str]]:
    from torchvision.models.feature_extraction import NodePathTracer  # it takes seconds to load

    tracer = NodePathTracer()
    was_training = adapted.training
    try:
        graph = tracer.trace(adapted.eval())
    except (TraceError, TypeError, ValueError, RuntimeError, NameError, AttributeError) as error:
        raise NotCuttableError(f"its code cannot be traced ({one_line(error)[:120]})") from error
    finally:
        adapted.train(was_training)
    paths = tracer.node_to_qualname
    return graph, {node: path.removeprefix("body.") for node, path in paths.items()}


def _all_names(paths: Iterable[str]) -> set[str]:
    """List every path and what is above it."""
    parts = [path.split(".") for path in paths]
    return {".".join(part[: depth + 1]) for part in parts for depth in range(len(part))}


def _last_node(name: str, paths: Mapping[fx.Node, str]) -> fx.Node:
    """Find the last operation of a layer; one that the network never runs is no place to cut."""
    inside = [node for node, path in paths.items() if f"{path}.".startswith(f"{name}.")]
    if not inside:
        raise ScenarioError(f"exits: the network has a layer '{name}' that it does not run")
    return inside[-1]


def _dependent(graph: fx.Graph) -> set[fx.Node]:
    """Collect what depends on the images; the rest can be computed anywhere."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == _INPUT or any(one in found for one in node.all_input_nodes):
            found.add(node)
    return found


def _segments(graph: fx.Graph, ends: Sequence[fx.Node], moving: set[fx.Node]) -> dict[fx.Node, int]:
    """Number the segment that each operation belongs to: the first that needs its result.

    One whose result is not used (a check of a shape) belongs where it is computed from.
    """
    (output,) = (node for node in graph.nodes if node.op == "output")
    segments: dict[fx.Node, int] = {}
    for number, end in enumerate((*ends, output)):
        waiting = [end]
        while waiting:
            node = waiting.pop()
            if node in moving and node not in segments:
                segments[node] = number
                waiting += node.all_input_nodes
    for node in graph.nodes:
        if node in moving and node not in segments:
            given = [segments[one] for one in node.all_input_nodes if one in moving]
            segments[node] = max(given, default=0)
    return {node: segments[node] for node in graph.nodes if node in segments}


def _require_cuttable(
    names: Sequence[str],
    ends: Sequence[fx.Node],
    segments: Mapping[fx.Node, int],
    moving: set[fx.Node],
) -> None:
    for node, segment in segments.items():
        for given in node.all_input_nodes:
            if given not in moving or segments[given] == segment:
                continue
            if segment == 0 or given is not ends[segment - 1]:
                crossed = names[min(segments[given], len(names) - 1)]
                again = given.name.removeprefix("body_")
                raise NotCuttableError(
                    f"behind '{crossed}' the network uses '{again}' again, which is computed before"
                )


def _subgraph(
    graph: fx.Graph,
    segments: Mapping[fx.Node, int],
    moving: set[fx.Node],
    ends: Sequence[fx.Node],
    number: int,
) -> fx.Graph:
    """Copy the operations of one segment, and the constants that it uses."""
    part = fx.Graph()
    given = part.placeholder("features")
    copies: dict[fx.Node, fx.Node] = {}
    if number:
        # a head reads this output too, and a network may go on in place
        copies[ends[number - 1]] = part.call_method("clone", (given,))
    needed = _constants(graph, segments, moving, number)
    for node in graph.nodes:
        if node.op == "output":
            if number == len(ends):
                part.output(fx.node.map_arg(node.args[0], copies.__getitem__))
        elif node in needed or segments.get(node) == number:
            copied = node.op != _INPUT
            copies[node] = part.node_copy(node, copies.__getitem__) if copied else given
    if number < len(ends):
        part.output(copies[ends[number]])
    part.lint()
    return part


def _constants(
    graph: fx.Graph, segments: Mapping[fx.Node, int], moving: set[fx.Node], number: int
) -> set[fx.Node]:
    """Collect what a segment uses that does not depend on the images."""
    found: set[fx.Node] = set()
    waiting = [node for node in graph.nodes if segments.get(node) == number]
    while waiting:
        for given in waiting.pop().all_input_nodes:
            if given not in moving and given not in found:
                found.add(given)
                waiting.append(given)
    return found


def _with_classifier(stages: list[fx.GraphModule], rest: fx.GraphModule) -> Pieces:
    """Take the last linear layer off, and see whether weights are left before it."""
    classifier: nn.Module = nn.Identity()
    (output,) = (node for node in rest.graph.nodes if node.op == "output")
    last = output.args[0]
    if isinstance(last, fx.Node) and last.op == "call_module" and len(last.users) == 1:
        layer = rest.get_submodule(str(last.target))
        calls = sum(node.target == last.target for node in rest.graph.nodes)
        if isinstance(layer, nn.Linear) and calls == 1:
            classifier = layer
            output.args = (last.args[0],)
            rest.graph.erase_node(last)
            rest.delete_all_unused_submodules()
            rest.recompile()
    if any(True for _ in rest.parameters()):
        return Pieces((*stages, rest), nn.Identity(), classifier)
    return Pieces(tuple(stages), rest, classifier)


def read_layers(
    body: nn.Module, names: Sequence[str], images: Tensor, read: Callable[[str, Tensor], T]
) -> tuple[list[T], Tensor]:
    """Run a network as it is; return what was read of its modules' outputs, and its own answer.

    Args:
        body: the network.
        names: of modules.
        images: (n, c, h, w).
        read: takes a name and an output, before code that works in place goes on with it.
    """
    seen: dict[str, T] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.__setitem__(name, read(name, output))

    handles = [body.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        answer: Tensor = body(images)
    finally:
        for handle in handles:
            handle.remove()
    if strange := [name for name in names if name not in seen]:
        raise ScenarioError(f"exits: the network has a layer '{strange[0]}' that it does not run")
    return [seen[name] for name in names], answer
