"""Serves a defended victim to attackers elsewhere: a budget for each API key.

Every key has a game of its own with its own ledger, defender and random streams, so that what one
asks changes nothing for another. The server is told nothing but images, and tells nothing but
answers: what an in-process attacker does not see goes over no wire either.
"""

import asyncio
import hmac
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from arena.http.arrival import read_body
from arena.http.protocol import (
    HEADER_LENGTH,
    MODEL,
    VERSION,
    Array,
    ProtocolError,
    decode,
    encode,
    wanted,
)
from envs.errors import ArenaError, BudgetExhausted, QueryError, Refused, printable
from envs.game.extraction_game import ExtractionGame
from envs.types import ThreatModel

EXTENSIONS = ("binary_tensor_data", "statistics", "clone_scoring")
"""Of the protocol, as the server's metadata announce them; the last one is ours."""

IMAGE_TYPES = ("FP32", "FP16", "UINT8")
"""Datatypes that images may come in; bytes stand for 0 to 1 in steps of 1/255."""

Score = Mapping[str, float | None]


class TooSoon(Exception):  # noqa: N818 - a state that passes
    """An account asks more than its rate allows.

    Args:
        seconds: to wait.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"this key may ask again in {seconds:.3g} s: its rate is limited")
        self.seconds = seconds


@dataclass(eq=False)
class Account:
    """One API key: its game, which one request at a time plays.

    Where the threat model has several accounts, each has a key, and all keys of a name play one
    game.

    Args:
        name: whose it is, for the operator.
        game: with its budget.
        number: which of the game's accounts asks with this key.
        score: scores the clone whose file is given, which ends the attack. None where clones are
            not taken.
        turn: held while the game is asked; one lock for all keys of a game.
        clock: gives seconds, by which a key whose rate is limited is made to wait.
    """

    name: str
    game: ExtractionGame
    number: int = 0
    score: Callable[[bytes], Score] | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)
    arriving: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2), init=False)
    handling: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    clock: Callable[[], float] = time.monotonic
    _until: float | None = None

    def ask(self, images: torch.Tensor) -> dict[str, Array]:
        """Answer a batch; see `envs.oracle.Oracle.query` for what is refused.

        Raises:
            TooSoon: the key has to wait; nothing was charged.
        """
        with self.turn:
            self._wait()
            response = self.game.play(images, self.number)
            remaining = torch.tensor([self.game.remaining], dtype=torch.int64)
        answers = {"posteriors": response.posteriors.cpu().numpy(), "remaining": remaining.numpy()}
        if self.game.threat.latency_visible:
            answers["latency"] = response.latency.cpu().numpy()
        return answers

    def _wait(self) -> None:
        """Send a key away for as long as its game would hold its answer back."""
        if self._until is None:
            wait = self.game.wait(self.number)
            if wait <= 0:
                return
            self._until = self.clock() + wait
        left = self._until - self.clock()
        if left > 0:
            raise TooSoon(left)
        self._until = None

    def take_clone(self, file: bytes) -> Score:
        """Score a clone; afterwards the key gets no more answers.

        Raises:
            ArenaError: no clone is taken, or the file does not hold one.
        """
        with self.turn:
            if self.score is None:
                raise QueryError("this server scores no clones")
            return self.score(file)


def create_app(accounts: Mapping[str, Account]) -> FastAPI:
    """Build the web application.

    Args:
        accounts: by API key, which is sent as `Authorization: Bearer KEY`.
    """
    app = FastAPI(title="Fortress Arena", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, compresslevel=1)
    app.add_exception_handler(HTTPException, _no_route)

    @app.get("/v2/health/live")
    @app.get("/v2/health/ready")
    async def ready() -> Response:
        return Response()

    @app.get("/v2")
    async def server() -> dict[str, object]:
        return {"name": "fortress-arena", "version": "2", "extensions": list(EXTENSIONS)}

    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        _add_model_routes(app, prefix, accounts)
    return app


def _add_model_routes(app: FastAPI, prefix: str, accounts: Mapping[str, Account]) -> None:
    """Add what may be asked of the model, under one of its two addresses."""

    @app.get(f"{prefix}/ready")
    async def model_ready(model: str, version: str = VERSION) -> Response:
        _require_model(model, version)
        return Response()

    @app.get(prefix)
    async def metadata(request: Request, model: str, version: str = VERSION) -> Response:
        return JSONResponse(described(_account(request, accounts, model, version)))

    @app.get(f"{prefix}/stats")
    async def statistics(request: Request, model: str, version: str = VERSION) -> Response:
        return JSONResponse(_statistics(_account(request, accounts, model, version)))

    @app.post(f"{prefix}/infer")
    async def infer(request: Request, model: str, version: str = VERSION) -> Response:
        account = _account(request, accounts, model, version)
        length = request.headers.get(HEADER_LENGTH)
        return await _handled(request, account, lambda body: _infer(account, body, length))

    @app.post(f"{prefix}/clone")
    async def clone(request: Request, model: str, version: str = VERSION) -> Response:
        account = _account(request, accounts, model, version)
        return await _handled(request, account, lambda body: _score(account, body))


async def _handled(
    request: Request, account: Account, handle: Callable[[bytes], Response]
) -> Response:
    """Take a body and answer it: few of one key are kept at a time, and one takes a thread."""
    async with account.arriving:
        body = await read_body(request)
        async with account.handling:
            return await run_in_threadpool(handle, body)


def _infer(account: Account, body: bytes, header_length: str | None) -> Response:
    """Answer one request; whatever is refused costs nothing and says why."""
    try:
        message = decode(body, header_length, "inputs")
        asked = wanted(message.fields, _outputs(account.game.threat))
        answers = account.ask(_images(message.tensors))
    except TooSoon as error:
        return _refused(429, str(error), headers={"Retry-After": str(math.ceil(error.seconds))})
    except Refused as error:
        return _refused(
            403,
            str(error),
            refused="account" if error.is_closed else "request",
            charged=error.charged,
            remaining=account.game.remaining,
        )
    except BudgetExhausted as error:
        return _refused(403, str(error))  # for good: 429 would ask the client to try again
    except (ProtocolError, QueryError) as error:
        return _refused(400, str(error))
    except ArenaError as error:
        return _refused(500, str(error))
    fields = {"model_name": MODEL, "model_version": VERSION}
    if asked.id is not None:
        fields["id"] = asked.id
    content, headers = encode(
        fields,
        "outputs",
        {name: answers[name] for name in asked.binary},
        as_lists=[name for name, binary in asked.binary.items() if not binary],
    )
    return Response(content, headers=headers)


def _images(tensors: Mapping[str, Array]) -> torch.Tensor:
    """Return the images of a request; half floats and bytes as float32 in [0, 1]."""
    if list(tensors) != ["images"]:
        raise ProtocolError(f"expected one input, 'images', got {', '.join(tensors)[:100]}")
    images = tensors["images"]
    if images.dtype == np.uint8:
        return torch.from_numpy(images.astype(np.float32) / np.float32(255))
    if images.dtype == np.float16:
        return torch.from_numpy(images.astype(np.float32))
    return torch.from_numpy(images.copy())


def _score(account: Account, body: bytes) -> Response:
    try:
        return JSONResponse(account.take_clone(body))
    except ArenaError as error:
        return _refused(400, str(error))


def _require_model(model: str, version: str) -> None:
    if model != MODEL:
        raise HTTPException(404, f"no model '{model[:40]}'; expected '{MODEL}'")
    if version != VERSION:
        raise HTTPException(404, f"no version '{version[:40]}' of '{MODEL}'; expected '{VERSION}'")


def _account(
    request: Request, accounts: Mapping[str, Account], model: str, version: str
) -> Account:
    """Find who asks; every key is compared in full, so that time tells nothing of it."""
    _require_model(model, version)
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    given = key.strip().encode()
    found = None
    for known, account in accounts.items():
        if hmac.compare_digest(given, known.encode()):
            found = account
    if found is None or scheme.lower() != "bearer":
        raise HTTPException(401, "expected a known API key as 'Authorization: Bearer KEY'")
    return found


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    """Answer every refusal as the protocol does, those of the framework too."""
    assert isinstance(error, HTTPException)
    words = str(error.detail)
    if error.status_code == 404 and words == "Not Found":
        words = f"nothing is at {request.url.path[:100]}; the model is at /v2/models/{MODEL}"
    return _refused(error.status_code, words)


def _refused(
    status: int, error: str, *, headers: Mapping[str, str] | None = None, **more: object
) -> JSONResponse:
    return JSONResponse({"error": printable(error), **more}, status_code=status, headers=headers)


def _outputs(threat: ThreatModel) -> list[str]:
    return ["posteriors", "remaining", *(["latency"] if threat.latency_visible else [])]


def described(account: Account) -> dict[str, Any]:  # Any: JSON
    """Return the metadata of the model, as the holder of a key gets them."""
    threat: ThreatModel = account.game.threat
    kinds = {
        "posteriors": ("FP32", [-1, threat.num_classes]),
        "remaining": ("INT64", [1]),
        "latency": ("FP64", [-1]),
    }
    accounts = {"account": account.number, "accounts": threat.accounts}
    if threat.account_budget is not None:
        accounts["account_budget"] = threat.account_budget
    return {
        "name": MODEL,
        "versions": [VERSION],
        "platform": "fortress-arena",
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, *threat.image_shape]}],
        "outputs": [
            {"name": name, "datatype": kinds[name][0], "shape": kinds[name][1]}
            for name in _outputs(threat)
        ],
        "parameters": {
            "budget": threat.budget,
            "remaining": account.game.remaining,
            "labels": threat.labels,
            "image_datatypes": list(IMAGE_TYPES),
            **(accounts if threat.accounts > 1 else {}),
            **({"refused": "free"} if threat.refused == "free" else {}),
        },
    }


def _statistics(account: Account) -> dict[str, Any]:  # Any: JSON
    """Tell what was counted under one key, as the protocol's statistics do."""
    game, number = account.game, account.number
    used = game.used if game.threat.accounts == 1 else game.charged_by_account[number]
    counted = {"inference_count": used, "execution_count": game.rounds}
    return {"model_stats": [{"name": MODEL, "version": VERSION, **counted}]}
