"""A client of the Open Inference Protocol, and the channel to a victim that speaks it."""

import json
from typing import Any, NamedTuple

import httpx

from arena.http.channels import Form, RequestFailed, seconds_of, without_secret
from arena.http.deadline import Deadline
from arena.http.protocol import HEADER_LENGTH, Array, ProtocolError, decode, encode
from envs.errors import ArenaError

TIMEOUT = 600.0
"""Seconds to wait for the answer to one batch."""

JSON = dict[str, Any]
"""`Any` in this file: JSON as it was parsed, and options of httpx."""


MOST_BYTES = 2**28
"""An answer that is longer is not read."""


class _Answer(NamedTuple):
    """What a server answered, all of it."""

    status: int
    headers: httpx.Headers
    content: bytes


class InferenceClient:
    """Asks one model of a server.

    Args:
        url: of the model: "http://HOST:PORT/v2/models/NAME", with "/versions/VERSION" if wanted.
        key: API key, sent as `Authorization: Bearer KEY`; it appears in no message.
        timeout: seconds of a request, from its beginning to the end of its answer.
        proxies: whether proxies of the environment are used.
        transport: another way to reach the server, for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = TIMEOUT,
        proxies: bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url, self._key, self._deadline = url.rstrip("/"), key, Deadline(timeout)
        headers = {"Accept-Encoding": "identity"}  # answers are short, and packing takes time
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            headers=headers, timeout=timeout, transport=transport, trust_env=proxies
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def metadata(self) -> JSON:
        """Return the model's metadata. Raises RequestFailed."""
        return self._json(self._send("GET", self._url))

    def extensions(self) -> list[str]:
        """Return the extensions of the protocol that the server announces. Raises RequestFailed."""
        server = self._url.partition("/v2/models/")[0]
        told = self._json(self._send("GET", f"{server}/v2")).get("extensions")
        return [str(one) for one in told] if isinstance(told, list) else []

    def inference_count(self) -> int | None:
        """Return how many images the server has counted; None where it does not tell."""
        told = self._json(self._send("GET", f"{self._url}/stats")).get("model_stats")
        try:
            counts = [one["inference_count"] for one in told or ()]
        except (TypeError, KeyError):
            return None
        known = counts and all(type(one) is int and one >= 0 for one in counts)
        return sum(counts) if known else None

    def infer(
        self, inputs: dict[str, Array], *, outputs: list[str] | None = None, binary: bool = True
    ) -> dict[str, Array]:
        """Ask for an answer.

        Args:
            inputs: arrays by name.
            outputs: names of those that are wanted; all if absent.
            binary: whether tensors are sent and wanted as bytes.

        Raises:
            RequestFailed: refused, or no answer.
            ArenaError: an answer that cannot be read.
        """
        fields: JSON = {"parameters": {"binary_data_output": True}} if binary else {}
        if outputs is not None:
            parameters = {"parameters": {"binary_data": True}} if binary else {}
            fields = {"outputs": [{"name": name, **parameters} for name in outputs]}
        as_lists = () if binary else tuple(inputs)
        body, headers = encode(fields, "inputs", inputs, as_lists=as_lists)
        answer = self._send("POST", f"{self._url}/infer", content=body, headers=headers)
        try:
            return decode(answer.content, answer.headers.get(HEADER_LENGTH), "outputs").tensors
        except ProtocolError as error:
            raise ArenaError(f"{self._url} sent an answer that cannot be read: {error}") from error

    def _send(self, method: str, address: str, **options: Any) -> _Answer:
        try:
            answer = self._received(method, address, options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            is_sent = not isinstance(
                error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
            )
            told = without_secret(str(error) or type(error).__name__, self._key)
            raise RequestFailed(f"cannot reach {self._url} ({told})", is_sent=is_sent) from None
        if answer.status == 200:
            return answer
        body = self._json(answer)
        words = body.get("error") or f"status {answer.status}"
        raise RequestFailed(
            f"{self._url} refuses: {without_secret(str(words), self._key)[:300]}",
            status=answer.status,
            wait=seconds_of(answer.headers.get("Retry-After")),
            told=body,
        )

    def _received(self, method: str, address: str, options: JSON) -> _Answer:
        """Read an answer to its end, in bounded time and memory.

        Raises:
            httpx.HTTPError: none came, or not within `timeout`.
            ArenaError: it is too large.
        """
        content = bytearray()
        steps = {"trace": self._deadline.trace}
        with (
            self._deadline.running(),
            self._client.stream(method, address, extensions=steps, **options) as answer,
        ):
            for part in answer.iter_bytes():
                content += part
                if len(content) > MOST_BYTES:
                    raise ArenaError(f"{self._url} sent an answer of more than {MOST_BYTES} bytes")
        return _Answer(answer.status_code, answer.headers, bytes(content))

    def _json(self, answer: _Answer) -> JSON:
        try:
            told = json.loads(answer.content)
        except (ValueError, RecursionError):
            return {}
        return told if isinstance(told, dict) else {}


class ModelChannel:
    """Asks a model of the Open Inference Protocol as a victim; see `arena.http.channels.Channel`.

    Args:
        client: asks the model.
        form: how the model takes images and answers.
    """

    def __init__(self, client: InferenceClient, form: Form) -> None:
        self._client, self._form = client, form
        self._extensions: list[str] | None = None

    def ask(self, images: Array) -> Array:
        """See `Channel`. Tensors go as bytes where the server says that it reads them."""
        outputs = self._client.infer(
            self._form.inputs(images),
            outputs=[self._form.output],
            binary="binary_tensor_data" in self._known(),
        )
        if self._form.output not in outputs:
            raise ArenaError(f"expected the output '{self._form.output}', got {list(outputs)}")
        return outputs[self._form.output]

    def counted(self) -> int | None:
        """See `Channel`."""
        return self._client.inference_count() if "statistics" in self._known() else None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _known(self) -> list[str]:
        """Return the extensions that the server announces; none where it has no such page."""
        if self._extensions is None:
            try:
                self._extensions = self._client.extensions()
            except RequestFailed as failed:
                if failed.status not in (404, 405, 501):
                    raise
                self._extensions = []
        return self._extensions
