"""A client of the Open Inference Protocol, and the oracle that asks `arena serve` through it."""

import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, get_args

import httpx
import torch
from torch import Tensor

from arena.http.channels import Form, RequestFailed, seconds_of, without_secret
from arena.http.patient import LONGEST_ASKED, TRIES
from arena.http.protocol import HEADER_LENGTH, MODEL, Array, ProtocolError, decode, encode
from envs.errors import ArenaError, BudgetExhausted, QueryError, Refused
from envs.game.accounts import Accounts
from envs.game.asking import ask_accounts
from envs.game.rounds import Refusal
from envs.seeding import Streams
from envs.types import AccountPolicy, Response, ThreatModel, check_images

TIMEOUT = 600.0
"""Seconds to wait for the answer to one batch."""

JSON = dict[str, Any]
"""`Any` in this file: JSON as it was parsed, and options of httpx."""


class InferenceClient:
    """Asks one model of a server.

    Args:
        url: of the model: "http://HOST:PORT/v2/models/NAME", with "/versions/VERSION" if wanted.
        key: API key, sent as `Authorization: Bearer KEY`; it appears in no message.
        timeout: seconds to wait for each step of a request.
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
        self._url, self._key = url.rstrip("/"), key
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
        return sum(counts) if counts and all(type(one) is int for one in counts) else None

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

    def _send(self, method: str, address: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, address, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            is_sent = not isinstance(
                error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
            )
            told = without_secret(str(error) or type(error).__name__, self._key)
            raise RequestFailed(f"cannot reach {self._url} ({told})", is_sent=is_sent) from None
        if answer.status_code == 200:
            return answer
        body = self._json(answer)
        words = body.get("error") or f"status {answer.status_code}"
        raise RequestFailed(
            f"{self._url} refuses: {without_secret(str(words), self._key)[:300]}",
            status=answer.status_code,
            wait=seconds_of(answer.headers.get("Retry-After")),
            told=body,
        )

    def _json(self, answer: httpx.Response) -> JSON:
        try:
            told = answer.json()
        except ValueError:
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
        self._counts: bool | None = None

    def ask(self, images: Array) -> Array:
        """See `Channel`."""
        outputs = self._client.infer(self._form.inputs(images), outputs=[self._form.output])
        if self._form.output not in outputs:
            raise ArenaError(f"expected the output '{self._form.output}', got {list(outputs)}")
        return outputs[self._form.output]

    def counted(self) -> int | None:
        """See `Channel`."""
        if self._counts is None:
            self._counts = "statistics" in self._client.extensions()
        return self._client.inference_count() if self._counts else None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class RemoteOracle:
    """Ask a victim behind HTTP, as `arena serve` offers it; see `envs.oracle.Oracle`.

    A context manager: leaving it closes the connection.

    Args:
        url: of the server ("http://127.0.0.1:8151").
        key: the API key; the server's budget for it is this oracle's. Or one for each account, in
            order, of those that the server gave to one name.
        account_policy: which account asks where none is named; see `envs.game.accounts`.
        streams: of the policy "by-similarity".
        transport: another way to reach the server, for tests.

    Raises:
        ArenaError: no such server, another protocol, or a key it does not know, or more keys than
            accounts.
    """

    def __init__(
        self,
        url: str,
        key: str | Sequence[str],
        *,
        account_policy: AccountPolicy = "one",
        streams: Streams | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        model = f"{self._url}/v2/models/{MODEL}"
        keys = [key] if isinstance(key, str) else key
        self._clients = [InferenceClient(model, key=one, transport=transport) for one in keys]
        try:
            threat, self._told_left = self._describe()
            if not 1 <= len(keys) <= threat.accounts:
                raise ArenaError(
                    f"expected 1 to {threat.accounts} keys, one for each account that "
                    f"{self._url} gives to a name, got {len(keys)}"
                )
            self.threat = replace(threat, accounts=len(keys), account_policy=account_policy)
            self._accounts = Accounts(self.threat, streams or Streams(0))
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
        for client in self._clients:
            client.close()

    @property
    def remaining(self) -> int:
        """Images that may still be asked, with the keys that there are."""
        return min(self._told_left, self._accounts.room)

    def query(self, images: Tensor, account: int | None = None) -> Response:
        """Ask for answers; they are on the images' device.

        Each account asks for its part with its own key.

        A connection that breaks while an answer is on its way may have cost the batch: the next
        answer tells how many are left.

        Raises:
            BudgetExhausted, QueryError: refused; nothing was charged.
            Refused: by the defender; it tells what was charged.
            ArenaError: the server cannot be reached, or fails.
        """
        images = check_images(images, self.threat.image_shape)
        account = self._accounts.checked(account, len(images))
        if account is None and len(images) > (left := self.remaining):
            raise BudgetExhausted(f"asked for {len(images)} answers with {left} left")
        before = int(self._accounts.charged.sum())
        try:
            if account is not None:
                return self._ask(images, account)
            return ask_accounts(
                self._ask,
                self._accounts,
                images,
                remaining=lambda: self.remaining,
                latency=self.threat.latency_visible,
            )
        except Refused as refusal:
            refusal.charged = int(self._accounts.charged.sum()) - before
            raise

    def _ask(self, images: Tensor, account: int) -> Response:
        try:
            outputs = self._outputs(images, account)
        except RequestFailed as failed:
            if failed.status == 403:
                raise self._refusal(failed, account) from failed
            if failed.status == 400:
                raise QueryError(str(failed)) from failed
            raise _told(failed) from failed
        try:
            posteriors = torch.from_numpy(outputs["posteriors"].copy()).to(images.device)
            self._told_left = int(outputs["remaining"][0])
            self._accounts.charge(account, len(images))
        except (KeyError, IndexError) as error:
            raise ArenaError(f"{self._url} sent an answer that cannot be read: {error}") from error
        latency = outputs.get("latency")
        if latency is None:
            return Response(posteriors)
        return Response(posteriors, torch.from_numpy(latency.copy()).to(images.device))

    def _outputs(self, images: Tensor, account: int) -> dict[str, Array]:
        """Ask with the key of an account, as often as the server wants to be asked later."""
        for _ in range(TRIES - 1):
            try:
                return self._clients[account].infer({"images": images.cpu().numpy()})
            except RequestFailed as failed:
                if failed.status != 429 or failed.wait is None or failed.wait > LONGEST_ASKED:
                    raise
                time.sleep(failed.wait)
        return self._clients[account].infer({"images": images.cpu().numpy()})

    def _refusal(self, failed: RequestFailed, account: int) -> BudgetExhausted:
        """Return what the server's refusal is to an attacker, and count what it charged."""
        refused, charged = failed.told.get("refused"), failed.told.get("charged")
        if refused not in get_args(Refusal) or type(charged) is not int:
            return BudgetExhausted(str(failed))
        left = failed.told.get("remaining")
        self._told_left = left if type(left) is int else self._told_left - charged
        self._accounts.charge(account, charged)
        if refused == "account":
            self._accounts.close(account)
        return Refused(str(failed), account=account, is_closed=refused == "account")

    def _describe(self) -> tuple[ThreatModel, int]:
        """Ask what may be asked, and how much of the budget is left."""
        try:
            told = self._clients[0].metadata()
        except RequestFailed as failed:
            raise _told(failed) from failed
        try:
            return _threat(told), int(told["parameters"]["remaining"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ArenaError(
                f"{self._url} is no server of 'arena serve': it describes no victim"
            ) from error


def _told(failed: RequestFailed) -> ArenaError:
    hint = "; is 'arena serve' running there?" if failed.status is None else ""
    return ArenaError(f"{failed}{hint}")


def _threat(told: JSON) -> ThreatModel:
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
        accounts=int(told["parameters"].get("accounts", 1)),
        account_budget=told["parameters"].get("account_budget"),
        refused="free" if told["parameters"].get("refused") == "free" else "charged",
    )
