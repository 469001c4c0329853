"""Networks of others by name: from a file, an installed distribution, timm or torchvision.

What a `use` may be: `path/to/net.py:Name`, the name of an entry point of the group
`arena.networks`, `timm:NAME` or `torchvision:NAME`. Each of these gives a class of
`torch.nn.Module` or a function that returns one. It is called with the parameters that a scenario
gives, and with `num_classes` and `image_shape` where it takes them. Or the path of a network that
was written with its weights: `model.pt2` (torch.export) or `model.onnx`.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.errors import ScenarioError, UnknownName, one_line
from envs.loading import imports

# `Any` in this file: parameters as a scenario gives them.

if TYPE_CHECKING:
    from torch import nn

GROUP = "arena.networks"
"""Entry points of installed distributions."""

_FETCHES = {"timm": "pretrained", "torchvision": "weights"}
_LIBRARIES = tuple(_FETCHES)


def is_own(use: str) -> bool:
    """Tell whether a `use` names a network of others; it need not exist."""
    is_path = imports.is_file_use(use) or imports.is_model_file(use)
    return is_path or _library_of(use) != "" or use in imports.offered(GROUP)


def offered() -> list[str]:
    """List the names that installed distributions offer."""
    return list(imports.offered(GROUP))


def short_name(use: str) -> str:
    """Name a network for people: the class or function of a file, a file, else the `use` itself."""
    if imports.is_model_file(use):
        return Path(use).name
    return imports.short_name(use)


def code_digest(use: str) -> str:
    """Digest the file or source of a network of others; "" where a library's name stands for it.

    Raises:
        ScenarioError: its file or its distribution cannot be imported.
    """
    if imports.is_file_use(use):
        imports.from_file(use)  # tells of a file that is not there
        return imports.file_digest(use)
    if imports.is_model_file(use):
        from envs.nets.weights import file_digest

        return file_digest(_model_file(use))
    if _library_of(use):
        return ""
    target = imports.only_target(GROUP, "network", use)
    imports.from_target(target)
    return imports.package_digest(target)


def make(
    use: str,
    *,
    num_classes: int,
    image_shape: tuple[int, int, int],
    params: Mapping[str, object],
) -> "nn.Module":
    """Call what a `use` names.

    Args:
        use: see the module.
        num_classes: K; passed on where it is taken and not among `params`.
        image_shape: (channels, height, width); likewise.
        params: by keyword.

    Raises:
        ScenarioError: it cannot be imported or called so, or gives no module; one line.
        UnknownName: the library has no such network.
    """
    import torch.nn

    if imports.is_model_file(use):
        return _written(_model_file(use), num_classes, image_shape, params)
    builder = _builder(use, num_classes, image_shape, params)
    try:
        made: object = builder()
    except ScenarioError:
        raise
    except Exception as error:  # of the author's code
        raise ScenarioError(f"{use}: {one_line(error)}") from error
    if not isinstance(made, torch.nn.Module):
        raise ScenarioError(
            f"{use}: expected a torch.nn.Module, or a function that returns one, got "
            f"{type(made).__name__}"
        )
    return made


def _model_file(use: str) -> Path:
    path = Path(use).expanduser()
    if not path.is_file():
        raise ScenarioError(f"{use}: no such file; it is looked for beside the scenario, then in "
                            f"{Path.cwd()}")  # fmt: skip
    return path


def _written(
    path: Path,
    num_classes: int,
    image_shape: tuple[int, int, int],
    params: Mapping[str, object],
) -> "nn.Module":
    from envs.nets.exported import ExportedNetwork
    from envs.nets.onnx_network import OnnxNetwork

    if params:
        raise ScenarioError(f"{path.name}: a file takes no parameters, got {', '.join(params)}")
    if path.suffix == ".onnx":
        return OnnxNetwork(path, image_shape=image_shape, num_classes=num_classes)
    return ExportedNetwork(path)


def _library_of(use: str) -> str:
    library, colon, name = use.partition(":")
    return library if colon and name and library in _LIBRARIES else ""


def _builder(
    use: str, num_classes: int, image_shape: tuple[int, int, int], params: Mapping[str, object]
) -> Callable[[], object]:
    library = _library_of(use)
    if library:
        _refuse_fetching(library, params)
        build = _from_timm if library == "timm" else _from_torchvision
        return partial(build, use.partition(":")[2], num_classes, image_shape[0], params)
    if imports.is_file_use(use):
        found = imports.from_file(use)
    else:
        found = imports.from_target(imports.only_target(GROUP, "network", use))
    return _called(use, found, {"num_classes": num_classes, "image_shape": image_shape}, params)


def _called(
    use: str, found: object, task: Mapping[str, object], params: Mapping[str, object]
) -> Callable[[], object]:
    """Bind a class or function to its arguments; a call that cannot be is told in one line."""
    from torch import nn

    is_module = isinstance(found, type) and issubclass(found, nn.Module)
    if not callable(found) or not (is_module or inspect.isroutine(found)):
        got = found.__name__ if isinstance(found, type) else type(found).__name__
        raise ScenarioError(
            f"{use}: expected a class of torch.nn.Module or a function that returns one, got {got}"
        )
    signature = inspect.signature(found)
    taken = {name: value for name, value in task.items() if name in signature.parameters}
    arguments = {**taken, **params}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ScenarioError(f"{use}: {error}; it takes {signature}") from None
    return partial(found, **arguments)


def _refuse_fetching(library: str, params: Mapping[str, object]) -> None:
    key = _FETCHES[library]
    if params.get(key):
        raise ScenarioError(
            f"params.{key}: nothing is fetched; save the weights to a file and name it with "
            f'weights = "FILE" beside use'
        )


def _from_timm(name: str, num_classes: int, channels: int, params: Mapping[str, object]) -> object:
    try:
        import timm
    except ImportError as error:
        raise ScenarioError(
            f"'timm:{name}' needs timm; pip install 'fortress-arena[vision]'"
        ) from error
    if not timm.is_model(name):
        raise UnknownName("network of timm", name, timm.list_models())
    given: dict[str, Any] = {
        "pretrained": False,
        "num_classes": num_classes,
        "in_chans": channels,
        **params,
    }
    try:
        return timm.create_model(name, **given)
    except TypeError as error:
        raise ScenarioError(f"timm:{name}: {one_line(error)}") from error


def _from_torchvision(
    name: str, num_classes: int, channels: int, params: Mapping[str, object]
) -> object:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UnknownName("network of torchvision", name, known)
    try:
        return models.get_model(name, **{"weights": None, "num_classes": num_classes, **params})
    except TypeError as error:
        raise ScenarioError(f"torchvision:{name}: {one_line(error)}") from error
