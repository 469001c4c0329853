"""The oracle that asks `arena serve` over HTTP."""

import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self, get_args

import httpx
import torch
from torch import Tensor

from arena.http.channels import RequestFailed
from arena.http.client import JSON, InferenceClient
from arena.http.patient import LONGEST_ASKED, TRIES
from arena.http.protocol import MODEL, Array
from envs.errors import ArenaError, BudgetExhausted, QueryError, Refused
from envs.game.accounts import Accounts
from envs.game.asking import ask_accounts
from envs.game.rounds import Refusal
from envs.seeding import Streams
from envs.types import AccountPolicy, Response, ThreatModel, check_images


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
