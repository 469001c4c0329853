"""An oracle whose victim is somewhere else."""

from types import TracebackType
from typing import Any, Self

import httpx
import torch
from torch import Tensor

from arena.http.protocol import HEADER_LENGTH, MODEL, ProtocolError, decode, encode
from envs.errors import ArenaError, BudgetExhausted, QueryError
from envs.types import Response, ThreatModel, check_images

TIMEOUT = 600.0
"""Seconds to wait for the answer to one batch."""


class RemoteOracle:
    """Ask a victim behind HTTP, as `arena serve` offers it; see `envs.oracle.Oracle`.

    A context manager: leaving it closes the connection.

    Args:
        url: of the server ("http://127.0.0.1:8151").
        key: the API key; the server's budget for it is this oracle's.
        transport: another way to reach the server, for tests.

    Raises:
        ArenaError: no such server, another protocol, or a key it does not know.
    """

    def __init__(self, url: str, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT,
            transport=transport,
        )
        self._url = url.rstrip("/")
        try:
            self.threat, self.remaining = self._describe()
        except ArenaError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def query(self, images: Tensor) -> Response:
        """Ask for answers; they are on the images' device.

        A connection that breaks while an answer is on its way may have cost the batch: the next
        answer tells how many are left.

        Raises:
            BudgetExhausted, QueryError: refused; nothing was charged.
            ArenaError: the server cannot be reached, or fails.
        """
        images = check_images(images, self.threat.image_shape)
        body, headers = encode({}, "inputs", {"images": images.cpu().numpy()})
        answer = self._send("POST", "/infer", content=body, headers=headers)
        try:
            outputs, _ = decode(answer.content, answer.headers.get(HEADER_LENGTH), "outputs")
            posteriors = torch.from_numpy(outputs["posteriors"].copy()).to(images.device)
            self.remaining = int(outputs["remaining"][0])
        except (ProtocolError, KeyError, IndexError) as error:
            raise ArenaError(f"{self._url} sent an answer that cannot be read: {error}") from error
        latency = outputs.get("latency")
        if latency is not None:
            latency = torch.from_numpy(latency.copy()).to(images.device)
        return Response(posteriors, latency)

    def _describe(self) -> tuple[ThreatModel, int]:
        """Ask what may be asked, and how much of the budget is left."""
        told = self._json(self._send("GET", ""))
        try:
            return _threat(told), int(told["parameters"]["remaining"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ArenaError(
                f"{self._url} is no server of 'arena serve': it describes no victim"
            ) from error

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:  # Any: of httpx
        try:
            address = f"{self._url}/v2/models/{MODEL}{path}"
            answer = self._client.request(method, address, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ArenaError(
                f"cannot reach {self._url} ({error}); is 'arena serve' running there?"
            ) from error
        if answer.status_code == 200:
            return answer
        words = self._json(answer).get("error") or f"status {answer.status_code}"
        if answer.status_code == 429:
            raise BudgetExhausted(str(words))
        if answer.status_code == 400:
            raise QueryError(str(words))
        raise ArenaError(f"{self._url} refuses: {words}")

    def _json(self, answer: httpx.Response) -> dict[str, Any]:  # Any: JSON
        try:
            told = answer.json()
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}


def _threat(told: dict[str, Any]) -> ThreatModel:
    """Read the threat model out of the victim's metadata."""
    channels, height, width = told["inputs"][0]["shape"][1:]
    outputs = {output["name"]: output["shape"] for output in told["outputs"]}
    labels = told["parameters"]["labels"]
    if labels not in ("soft", "hard"):
        raise ValueError(labels)
    return ThreatModel(
        num_classes=int(outputs["posteriors"][1]),
        image_shape=(int(channels), int(height), int(width)),
        budget=int(told["parameters"]["budget"]),
        labels=labels,
        latency_visible="latency" in outputs,
    )
