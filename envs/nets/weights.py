"""Published weights of the large networks: which file, where it lies, and how it is read in.

Nothing is ever fetched here. A network that wants weights which are not there says which file
is missing, where to put it and where to get it.
"""

import hashlib
import os
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from envs.errors import DataMissing, one_line

IMAGENET = "imagenet"
"""In the place of a file's path: the weights that were published for the network."""

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
_DIGEST = re.compile(r"-([0-9a-f]{8,})\.pth$")  # torchvision's names end in their SHA-256
_CLASSIFIER = "classifier."

State = Mapping[str, Tensor]
Convert = Callable[[State], State]
"""Turns what a file holds into the names and shapes of the library's network."""


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that were published for a network.

    Args:
        file: its name below the folder of weights.
        url: where it comes from.
        repository: of the Hugging Face hub, whose cache is looked into; "" for torchvision's.
        mean: per channel, what the weights were trained with.
        std: per channel.
    """

    file: str
    url: str
    repository: str = ""
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD


def _torchvision(file: str) -> Published:
    return Published(file, f"https://download.pytorch.org/models/{file}")


def _timm(tag: str, **changes: tuple[float, ...]) -> Published:
    url = f"https://huggingface.co/timm/{tag}/resolve/main/model.safetensors"
    return Published(f"{tag}.safetensors", url, f"timm/{tag}", **changes)


PUBLISHED: Mapping[str, Published] = {
    # the first version of ResNet-50's, which was the default when the literature's tables were made
    "resnet50": _torchvision("resnet50-0676ba61.pth"),
    "resnet34": _torchvision("resnet34-b627a593.pth"),
    "vgg19": _torchvision("vgg19-dcbb9e9d.pth"),
    "vgg19_bn": _torchvision("vgg19_bn-c79401a0.pth"),
    "swin_large_patch4_window12_384": _timm("swin_large_patch4_window12_384.ms_in22k_ft_in1k"),
    "swin_tiny_patch4_window7_224": _timm("swin_tiny_patch4_window7_224.ms_in1k"),
    "vit_large_patch16_384": _timm(
        "vit_large_patch16_384.augreg_in21k_ft_in1k", mean=_HALF, std=_HALF
    ),
    "cait_s36_384": _timm("cait_s36_384.fb_dist_in1k"),
    "cait_xxs24_224": _timm("cait_xxs24_224.fb_dist_in1k"),
    "deit_base_distilled_patch16_384": _timm("deit_base_distilled_patch16_384.fb_in1k"),
    "deit_small_patch16_224": _timm("deit_small_patch16_224.fb_in1k"),
    "deit_tiny_patch16_224": _timm("deit_tiny_patch16_224.fb_in1k"),
}
"""By the library's name of the network."""


def weights_root() -> Path:
    """Return the folder of weights: ARENA_WEIGHTS, else `weights` below ARENA_DATA or ./data."""
    given = os.environ.get("ARENA_WEIGHTS")
    return Path(given) if given else Path(os.environ.get("ARENA_DATA") or "data") / "weights"


def find(model: str, weights: str) -> Path:
    """Find a file of weights.

    Args:
        model: the library's name of the network.
        weights: "imagenet", or a path, absolute, from the working directory or below the folder
            of weights.

    Raises:
        DataMissing: it is nowhere; the message says what to put where.
    """
    published = PUBLISHED[model]
    if weights != IMAGENET:
        path = Path(weights).expanduser()
        places = [path, weights_root() / path]
    else:
        places = [weights_root() / published.file, *_in_caches(published)]
    for place in places:
        if place.is_file():
            return place
    if weights != IMAGENET:
        raise DataMissing(f"no weights in {places[0]} nor in {places[1]}; name a file of weights "
                          f"for {model}, or \"{IMAGENET}\" for the published ones")  # fmt: skip
    raise DataMissing(
        f"no pre-trained weights of {model}: expected {places[0]}; get {published.url} and save it "
        f'under that name, name another file with weights = "FILE", or start from drawn weights '
        f'with weights = ""'
    )


def _in_caches(published: Published) -> list[Path]:
    """List where the libraries keep what they have fetched before."""
    if not published.repository:
        return [Path(torch.hub.get_dir()) / "checkpoints" / published.file]
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return []
    found = try_to_load_from_cache(published.repository, "model.safetensors")
    return [Path(found)] if isinstance(found, str) else []


def read(path: Path) -> State:
    """Read a file of weights; code in it is not run.

    Raises:
        DataMissing: it cannot be read, or does not have the digest its name tells.
    """
    digest = _DIGEST.search(path.name)
    try:
        if digest is not None and not file_digest(path).startswith(digest[1]):
            raise DataMissing(f"{path} is damaged: its SHA-256 does not begin with {digest[1]}")
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: State = load_file(path)
            return loaded
        return _unwrapped(torch.load(path, map_location="cpu", weights_only=True), path)
    except ImportError as error:
        raise DataMissing(f"{path} needs safetensors; pip install safetensors") from error
    except DataMissing:
        raise
    except pickle.UnpicklingError as error:  # its own message is about options of torch.load
        raise DataMissing(
            f"{path} is no file of weights: expected a state dict, as torch.save("
            f"model.state_dict(), FILE) writes it, or safetensors"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DataMissing(f"{path} is no file of weights: {one_line(error)[:150]}"
                          ) from error  # fmt: skip
    except Exception as error:  # safetensors has an error of its own, without a public base
        raise DataMissing(f"{path} is damaged: {error}") from error


def _unwrapped(loaded: object, path: Path) -> State:
    """Return the tensors by name, out of the "model" or "state_dict" they may be wrapped in."""
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise DataMissing(f"{path} is no file of weights: expected tensors by name")
    return loaded


def file_digest(path: Path) -> str:
    """Digest a file, SHA-256 in hexadecimal; one that did not change is not read again."""
    state = path.stat()
    return _digest(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _digest(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_tensors(network: nn.Module, whole: nn.Module) -> dict[str, str]:
    """Map names in a network to those in the library's network that its parts came from."""
    theirs = {id(tensor): name for name, tensor in whole.state_dict(keep_vars=True).items()}
    ours = network.state_dict(keep_vars=True).items()
    return {name: theirs[id(tensor)] for name, tensor in ours if id(tensor) in theirs}


def _as_they_are(state: State) -> State:
    return state


@dataclass(frozen=True, slots=True)
class FileStart:
    """Begins with the weights of a file.

    Args:
        model: the library's name of the network.
        weights: see `find`.
        names: see `same_tensors`.
        convert: from the file's names and shapes to the library's.
    """

    model: str
    weights: str
    names: Mapping[str, str]
    convert: Convert = _as_they_are

    def path(self) -> Path:
        """Find the file.

        Raises:
            DataMissing: it is nowhere; the message says what to put where.
        """
        return find(self.model, self.weights)

    def fill(self, network: nn.Module) -> None:
        """Overwrite the drawn weights; a classifier of other classes stays as it was drawn.

        Raises:
            DataMissing: the file is not there, is damaged, or belongs to another network.
        """
        path = self.path()
        state = self.convert(read(path))
        own = network.state_dict()
        found: dict[str, Tensor] = {}
        for name, theirs in self.names.items():
            tensor = state.get(theirs)
            if tensor is not None and tensor.shape == own[name].shape:
                found[name] = tensor
            elif not name.startswith(_CLASSIFIER) and not name.endswith("num_batches_tracked"):
                came = "nothing" if tensor is None else f"{tuple(tensor.shape)}"
                raise DataMissing(f"{path} is not for {self.model}: expected {theirs} of shape "
                                  f"{tuple(own[name].shape)}, got {came}")  # fmt: skip
        network.load_state_dict(found, strict=False)
