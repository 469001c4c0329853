"""Data sets and surrogate pools by name.

`load` gives a data set that a game can be played on, `load_pool` gives images for an attacker's
or a defence's surrogate pool in the shape of the victim's queries. Files are looked for below
the data root: the argument, else the variable ARENA_DATA, else ./data.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch

from envs.data.arrays import unlabelled
from envs.data.catalog import SOURCES, Form, Part, Source
from envs.data.cutting import of_classes, part_of, sample
from envs.data.enlarging import enlarged
from envs.data.images import ImageSet, Splits, fingerprint
from envs.data.own import source_of
from envs.data.pictures import undecoded
from envs.data.places import data_root
from envs.data.resize import fit_to
from envs.data.splits import resampled
from envs.errors import ArenaError, UnknownName
from envs.ranges import Pictures

R = TypeVar("R")
_POOL_OPTIONS = ("split", "classes", "enlarge")  # of every pool that is cut out of a labelled set
_SHAPING = ("size", "fit", "grey")  # options that choose no images
_POOL_HINTS = {
    "split": Part,
    "classes": Sequence[str] | None,
    "enlarge": bool,
    "count": Pictures,
}


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a listing shows of a source.

    Args:
        name: as scenarios write it.
        summary: one line.
        playable: whether a victim can be trained on it.
        downloads: whether `download` can fetch it.
        needs: what has to lie in the data root; "" for nothing.
        options: parameters of `load` with their defaults.
        pool_options: parameters of `load_pool` with their defaults.
        hints: annotations of all of them, by name.
    """

    name: str
    summary: str
    playable: bool
    downloads: bool
    needs: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    pool_options: Mapping[str, object] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)


def names() -> list[str]:
    """List the names of all sources, in the order of the catalog."""
    return list(SOURCES)


def describe(name: str) -> SourceInfo:
    """Tell what a source holds and which options it takes.

    Raises:
        UnknownName: there is no source of this name.
    """
    source = source_of(name)
    reader = source.splits
    options = {} if reader is None else _options(reader)
    if source.draw is not None:
        pool = _options(source.draw)
    else:
        pool = {**options, "split": source.pool_part, "classes": None, "enlarge": False}
    hints = {**_hints(reader), **_hints(source.draw), **_POOL_HINTS}
    known = {name: hint for name, hint in hints.items() if name in (*options, *pool, "count")}
    return SourceInfo(
        name,
        source.summary,
        reader is not None,
        source.downloads,
        source.needs,
        options,
        pool,
        known,
    )


def form_of(name: str, *, root: Path | None = None, **options: Any) -> Form | None:
    """Tell the form of a set's images and its classes, without reading them.

    Args:
        name: one of `names()`.
        root: the data root; see `data_root`.
        **options: as `load` takes them; those that do not bear on the form are ignored.

    Raises:
        UnknownName: no such source.
    """
    source = source_of(name)
    own = {} if source.splits is None else _options(source.splits)
    return source.form(data_root(root), **{**own, **options})


def digest_of(name: str, *, root: Path | None = None, **params: Any) -> str:
    """Digest the images and labels of a set by reading it, to 16 hexadecimal digits.

    Args:
        name: a data set of others; the digest of ours is that of their files.
        root: the data root; see `data_root`.
        **params: as `load` or `load_pool` take them; what chooses among images is ignored.

    Raises:
        ArenaError: it cannot be read.
    """
    source = source_of(name)
    reader = source.pool or source.splits
    assert reader is not None
    own = {key: value for key, value in params.items() if key not in (*_POOL_OPTIONS, "count")}
    found = _read(name, source, reader, root, download=False, params=own)
    return found.fingerprint if isinstance(found, Splits) else fingerprint(found)


def load(
    name: str,
    *,
    root: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    **params: Any,  # checked against the source's own signature
) -> Splits:
    """Read a data set that a game can be played on.

    Args:
        name: one of `names()`.
        root: the data root; see `data_root`.
        download: fetch the files where they are missing; only torchvision's sets can.
        device: where the images shall live.
        **params: options of the source; see `describe`.

    Raises:
        UnknownName: no such source, or no such option of it.
        ArenaError: the source has no labels, or an option has an impossible value, or leaves a
            part without images.
        DataMissing: its files are not there or are damaged.
    """
    source = source_of(name)
    if source.splits is None:
        raise ArenaError(
            f"'{name}' has no labels to learn, it can only be a surrogate pool; "
            "play on 'digits' or 'shapes', or see the list of data sets"
        )
    splits = _read(name, source, source.splits, root, download=download, params=params)
    if len(splits.benign) == 0:
        raise ArenaError(
            f"'{name}' has {len(splits.test)} test images; expected at least 3, because benign "
            "users, checkpoints and the final score have images of their own"
        )
    return splits.to(device)


def load_pool(
    name: str,
    *,
    image_shape: tuple[int, int, int],
    generator: torch.Generator,
    count: int | None = None,
    root: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    resample: int | None = None,
    **params: Any,  # checked against the source's own signature
) -> ImageSet:
    """Read or draw a pool of images in the shape of a victim's queries.

    A labelled set is brought to the shape (`envs.data.resize`), and keeps its labels, which say
    nothing about the victim's classes. Options of such a pool beside those of `load`: `split`,
    a part of `Splits` or "all"; `classes`, names of the only ones to take; and `enlarge`, whether
    crops and mixes make it up to `count` where the set has fewer images.

    Args:
        name: one of `names()`.
        image_shape: (channels, height, width) of the victim's images.
        generator: draws synthetic images, or which images of a labelled set are taken.
        count: images; all of a labelled set where nothing is given, 10,000 synthetic ones.
        root: the data root; see `data_root`.
        download: fetch the files where they are missing.
        device: where the images shall live.
        resample: seed of another division of a labelled set; its own where nothing is given.
        **params: options of the source; see `describe`.

    Raises:
        UnknownName: no such source, option or class.
        ArenaError: the source has fewer images than asked for.
        DataMissing: its files are not there or are damaged.
    """
    source = source_of(name)
    if source.draw is not None:
        _check_options(name, params, _options(source.draw))
        drawn = source.draw(10_000 if count is None else count, image_shape, generator, **params)
        return unlabelled(drawn, name).to(device)
    assert source.splits is not None
    own = {key: params.pop(key) for key in _POOL_OPTIONS if key in params}
    reader = source.pool or source.splits
    found = _read(
        name, source, reader, root, download=download, params=params, victim_shape=image_shape
    )
    if isinstance(found, Splits):
        splits = found if resample is None else resampled(found, resample)
        found = part_of(splits, own.get("split", source.pool_part))
    images = of_classes(found, own.get("classes"))
    more = count if own.get("enlarge", False) and (count or 0) > len(images) else None
    images = sample(images, None if more else count, generator)
    images = replace(images, pixels=fit_to(images.pixels, image_shape))
    return (enlarged(images, more, generator) if more else images).to(device)


def counted_pool(
    name: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    **params: Any,  # checked against the source's own signature
) -> tuple[str, int] | None:
    """Count the images that `load_pool` cuts a pool out of.

    Image files are not decoded, and nothing is fetched.

    Returns:
        What the set is called, and how many of its images are in that part and of those classes.
        None where pools are drawn.

    Raises:
        UnknownName, DataMissing: see `load_pool`.
    """
    source = source_of(name)
    if source.draw is not None:
        return None
    reader = source.pool or source.splits
    assert reader is not None
    if name in SOURCES:
        params = {key: value for key, value in params.items() if key not in _SHAPING}
    with undecoded():
        found = _read(name, source, reader, root, download=False, params=params,
                      victim_shape=(1, 1, 1))  # fmt: skip
    part = part_of(found, split or source.pool_part) if isinstance(found, Splits) else found
    images = of_classes(part, classes)
    return images.name, len(images)


def _options(function: Callable[..., object]) -> dict[str, object]:
    """List the keyword options of a reader that users may set, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name not in ("root", "download", "victim_shape")
    }


def _hints(function: Callable[..., object] | None) -> dict[str, Any]:
    return {} if function is None else get_type_hints(function, include_extras=True)


def _takes(function: Callable[..., object], name: str) -> bool:
    return name in inspect.signature(function).parameters


def _check_options(name: str, given: Mapping[str, object], known: Mapping[str, object]) -> None:
    for option in given:
        if option not in known:
            raise UnknownName(f"option of '{name}'", option, known)


def _read(
    name: str,
    source: Source,
    reader: Callable[..., R],
    root: Path | None,
    *,
    download: bool,
    params: Mapping[str, Any],  # checked here, by name
    victim_shape: tuple[int, int, int] | None = None,
) -> R:
    """Call a reader of a source with what it takes; a pool takes the options of the data set."""
    assert source.splits is not None
    _check_options(name, params, _options(source.splits))
    if download and not _takes(reader, "download") and _takes(reader, "root"):
        raise ArenaError(f"'{name}' cannot be downloaded; put its files below {data_root(root)}")
    places = {"root": data_root(root), "download": download, "victim_shape": victim_shape}
    return reader(**{k: v for k, v in places.items() if _takes(reader, k)}, **params)
