"""Serves a defended victim to attackers elsewhere: a budget for each API key.

Every key has a game of its own with its own ledger, defender and random streams, so that what one
asks changes nothing for another. The server is told nothing but images, and tells nothing but
answers: what an in-process attacker does not see goes over no wire either.
"""

import asyncio
import hmac
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from arena.http.protocol import HEADER_LENGTH, MODEL, Array, ProtocolError, as_json, decode, encode
from envs.errors import ArenaError, BudgetExhausted, QueryError, printable
from envs.game.extraction_game import ExtractionGame
from envs.types import ThreatModel

LARGEST_BODY = 256 * 2**20
"""Bytes of a request at most."""


PATIENCE = 60
"""Seconds in which a request has to arrive."""


@dataclass(eq=False)
class Account:
    """One API key: its game, which one request at a time plays.

    Args:
        name: whose it is, for the operator.
        game: with its budget.
    """

    name: str
    game: ExtractionGame
    turn: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, images: torch.Tensor) -> dict[str, Array]:
        """Answer a batch; see `envs.oracle.Oracle.query` for what is refused."""
        with self.turn:
            response = self.game.play(images)
            remaining = torch.tensor([self.game.remaining], dtype=torch.int64)
        answers = {"posteriors": response.posteriors.cpu().numpy(), "remaining": remaining.numpy()}
        if self.game.threat.latency_visible:
            answers["latency"] = response.latency.cpu().numpy()
        return answers


def create_app(accounts: Mapping[str, Account]) -> FastAPI:
    """Build the web application.

    Args:
        accounts: by API key, which is sent as `Authorization: Bearer KEY`.
    """
    app = FastAPI(title="Fortress Arena", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/v2/health/live")
    @app.get("/v2/health/ready")
    @app.get(f"/v2/models/{MODEL}/ready")
    async def ready() -> Response:
        return Response()

    @app.get("/v2")
    async def server() -> dict[str, object]:
        return {"name": "fortress-arena", "version": "2", "extensions": ["binary_tensor_data"]}

    @app.get(f"/v2/models/{MODEL}")
    async def metadata(request: Request) -> Response:
        account = _account(request, accounts)
        return _refused(401) if account is None else JSONResponse(_metadata(account))

    @app.post(f"/v2/models/{MODEL}/infer")
    async def infer(request: Request) -> Response:
        account = _account(request, accounts)
        if account is None:
            return _refused(401)
        try:
            async with asyncio.timeout(PATIENCE):
                body = await _body(request)
        except TimeoutError:
            return _refused(408, f"expected the whole request within {PATIENCE} seconds")
        if body is None:
            return _refused(413, f"expected at most {LARGEST_BODY} bytes")
        return await run_in_threadpool(_infer, account, body, request.headers.get(HEADER_LENGTH))

    return app


def _infer(account: Account, body: bytes, header_length: str | None) -> Response:
    """Answer one request; whatever is refused costs nothing and says why."""
    try:
        inputs, binary = decode(body, header_length, "inputs")
        if list(inputs) != ["images"]:
            raise ProtocolError(f"expected one input, 'images', got {', '.join(inputs)[:100]}")
        answers = account.ask(torch.from_numpy(inputs["images"].copy()))
    except BudgetExhausted as error:
        return _refused(429, str(error))
    except (ProtocolError, QueryError) as error:
        return _refused(400, str(error))
    except ArenaError as error:
        return _refused(500, str(error))
    fields = {"model_name": MODEL, "model_version": "1"}
    if not binary:
        return JSONResponse(as_json(fields, answers))
    content, headers = encode(fields, "outputs", answers)
    return Response(content, headers=headers)


def _account(request: Request, accounts: Mapping[str, Account]) -> Account | None:
    """Find who asks; every key is compared in full, so that time tells nothing of it."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
    found = None
    for key, account in accounts.items():
        if hmac.compare_digest(given, key.encode()):
            found = account
    return found


async def _body(request: Request) -> bytes | None:
    """Read a body; None where it is too large, which is noticed before it is kept."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _refused(status: int, error: str = "expected a known API key as 'Authorization: Bearer KEY'") \
        -> JSONResponse:  # fmt: skip
    return JSONResponse({"error": printable(error)}, status_code=status)


def _metadata(account: Account) -> dict[str, Any]:  # Any: JSON
    threat: ThreatModel = account.game.threat
    outputs = [
        {"name": "posteriors", "datatype": "FP32", "shape": [-1, threat.num_classes]},
        {"name": "remaining", "datatype": "INT64", "shape": [1]},
    ]
    if threat.latency_visible:
        outputs.append({"name": "latency", "datatype": "FP64", "shape": [-1]})
    return {
        "name": MODEL,
        "versions": ["1"],
        "platform": "fortress-arena",
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, *threat.image_shape]}],
        "outputs": outputs,
        "parameters": {
            "budget": threat.budget,
            "remaining": account.game.remaining,
            "labels": threat.labels,
        },
    }
