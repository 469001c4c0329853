"""Ways to a victim elsewhere: the Open Inference Protocol, or a class of the user's."""

import http.client
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from arena.http.protocol import DTYPES, Array
from envs.errors import ArenaError, ScenarioError, one_line

# `Any` in this file: JSON as it was parsed, and whatever a user's class returns.


class RequestFailed(ArenaError):  # noqa: N818 - a state of the connection, which may pass
    """A request that got no answer.

    Args:
        line: what happened.
        status: of the refusal; None where there was no response.
        is_sent: whether the server may have seen the request.
        wait: seconds after which the server wants to be asked again; None where it tells none.
        told: what else the refusal says, as JSON.
    """

    def __init__(
        self, line: str, *, status: int | None = None, is_sent: bool = True,
        wait: float | None = None, told: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(line)
        self.status, self.is_sent, self.wait = status, is_sent, wait
        self.told = told or {}


class Channel(Protocol):
    """Asks a victim elsewhere, once and without patience."""

    def ask(self, images: Array) -> Array:
        """Return what it answers: (n, K) floats, or (n,) or (n, 1) whole numbers, the labels.

        Args:
            images: (n, c, h, w) float32 in [0, 1].

        Raises:
            RequestFailed: no answer.
            ArenaError: an answer that cannot be used.
        """
        ...

    def counted(self) -> int | None:
        """Return how many images it has counted; None where it does not tell. As `ask`."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class AdapterChannel:
    """Asks through a class of the user's.

    The first public method of the class takes images, (n, c, h, w) float32 in [0, 1], and returns
    posteriors or labels. A method `counted`, if there is one, returns how many images the server
    has counted, and `close` closes the connection.

    Args:
        use: what the class is called in messages.
        adapter: an object of the class.
        secret: API key, which appears in no message.

    Raises:
        ScenarioError: it has no such method, or several.
    """

    def __init__(self, use: str, adapter: object, *, secret: str | None = None) -> None:
        self._use, self._adapter, self._secret = use, adapter, secret
        self._counts = getattr(adapter, "counted", None)
        methods = [
            name
            for name in dir(adapter)
            if not name.startswith("_") and name not in ("counted", "close")
            and callable(getattr(adapter, name))
        ]  # fmt: skip
        if len(methods) != 1:
            raise ScenarioError(
                f"{use}: expected one public method, which takes images and returns posteriors or "
                f"labels (and 'counted' and 'close', if wanted), got {', '.join(methods) or 'none'}"
            )
        self._ask = getattr(adapter, methods[0])

    def ask(self, images: Array) -> Array:
        """See `Channel`."""
        # inside, because what it returns need be no array
        answer: Array = self._called(lambda given: np.asarray(self._ask(given)), images)
        return answer

    def counted(self) -> int | None:
        """See `Channel`."""
        counted = None if self._counts is None else self._called(self._counts)
        if counted is None or (type(counted) is int and counted >= 0):
            return counted
        raise ArenaError(f"{self._use}: counted() returned {ascii(counted)[:60]}; expected a "
                         f"whole number of images")  # fmt: skip

    def close(self) -> None:
        """Close the connection, if the class has a way to."""
        close = getattr(self._adapter, "close", None)
        if close is not None:
            close()

    def _called(self, method: Any, *arguments: object) -> Any:
        try:
            return method(*arguments)
        except Exception as error:
            # alone, because what it was raised from may hold the key
            told = f"{self._use}: {without_secret(one_line(error), self._secret)}"
            raise (_failure_of(error, told) or ArenaError(told)) from None


def without_secret(text: str, secret: str | None) -> str:
    """Take an API key out of a message."""
    return text.replace(secret, "***") if secret else text


def _failure_of(error: Exception, told: str) -> RequestFailed | None:
    """Tell whether an error is of the connection, or a refusal; of any HTTP library."""
    response = getattr(error, "response", error)
    for name in ("status_code", "code", "status"):
        if type(status := getattr(response, name, None)) is int and 400 <= status < 600:
            headers = getattr(response, "headers", None)
            wait = headers.get("Retry-After") if isinstance(headers, Mapping) else None
            return RequestFailed(told, status=status, wait=seconds_of(wait))
    httpx: Any = sys.modules.get("httpx")  # its errors are none of the system's
    kinds = (OSError, EOFError, http.client.HTTPException)
    if not isinstance(error, kinds + ((httpx.TransportError,) if httpx else ())):
        return None
    is_refused = isinstance(error, ConnectionRefusedError) or (
        httpx is not None and isinstance(error, httpx.ConnectError)
    )
    return RequestFailed(told, is_sent=not is_refused)


def seconds_of(header: object) -> float | None:
    """Read `Retry-After` where it is a number of seconds; a date is passed over."""
    text = header if isinstance(header, str) else ""
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


class Form:
    """How a model of the protocol takes images and gives answers, by its metadata.

    Args:
        told: the metadata.
        url: of the model, for messages.
        image_shape: (channels, height, width) of the images that it will be asked.
        num_classes: K.

    Attributes:
        output: the name of the output that holds the answer.

    Raises:
        ScenarioError: it does not take such images, or does not answer so many classes.
    """

    def __init__(
        self, told: Mapping[str, Any], url: str, *, image_shape: tuple[int, int, int],
        num_classes: int,
    ) -> None:  # fmt: skip
        try:
            inputs, outputs = _tensors(told["inputs"]), _tensors(told["outputs"])
        except (KeyError, TypeError) as error:
            raise ScenarioError(f"{url} describes no inputs and outputs of a model") from error
        channels_first = list(image_shape)
        channels_last = [*image_shape[1:], image_shape[0]]
        shape = inputs[0][2][1:] if len(inputs) == 1 else []
        if _fits(shape, channels_first):
            self._channels_last = False
        elif _fits(shape, channels_last):
            self._channels_last = True
        else:
            raise ScenarioError(
                f"{url}: expected one input of images (n, {', '.join(map(str, image_shape))}), as "
                f"the data has them, got {inputs}"
            )
        self._input, self._datatype = inputs[0][0], inputs[0][1]
        if self._datatype not in ("FP16", "FP32", "FP64", "UINT8"):
            raise ScenarioError(f"{url}: expected images as FP16, FP32, FP64 or UINT8, got "
                                f"{self._datatype}")  # fmt: skip
        self.output = _output_of(outputs, num_classes, url)

    def inputs(self, images: Array) -> dict[str, Array]:
        """Return (n, c, h, w) float32 images in [0, 1] as the model takes them, by name."""
        if self._channels_last:
            images = images.transpose(0, 2, 3, 1)
        if self._datatype == "UINT8":
            images = np.rint(images * np.float32(255))
        return {self._input: images.astype(DTYPES[self._datatype])}


def _tensors(listed: Any) -> list[tuple[str, str, list[Any]]]:
    """Read name, kind and shape of each; KeyError or TypeError where it is no such list."""
    found = [(one["name"], one["datatype"], list(one["shape"])) for one in listed]
    if not all(isinstance(word, str) for *words, _ in found for word in words):
        raise TypeError("expected texts")
    return found


def _fits(shape: list[Any], wanted: list[int]) -> bool:
    """Tell whether a shape of the metadata, -1 for any size, is that of images."""
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(side in (-1, size) for side, size in pairs)


def _output_of(outputs: list[tuple[str, str, list[Any]]], num_classes: int, url: str) -> str:
    """Choose the output that holds a number for each class; else the one that holds a label."""
    scores = [
        name
        for name, kind, shape in outputs
        if kind.startswith("FP") and len(shape) == 2 and shape[1] in (-1, num_classes)
    ]
    labels = [
        name
        for name, kind, shape in outputs
        if kind.startswith("INT") and shape[:1] == [-1] and shape[1:] in ([], [1])
    ]
    if found := scores or labels:
        return next((name for name in found if name == "posteriors"), found[0])
    raise ScenarioError(
        f"{url}: expected an output (n, {num_classes}) of floats, or (n) of whole numbers, got "
        f"{outputs}; has the data as many classes as the model?"
    )  # fmt: skip
