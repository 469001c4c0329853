"""Reaches the victim elsewhere that a scenario names."""

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from arena.http.addresses import is_loopback, is_url, read_key
from arena.http.channels import AdapterChannel, Channel, Form, without_secret
from arena.http.patient import PatientChannel, persistently
from arena.http.query_ledger import QueryLedger
from arena.http.remote_victim import RemoteVictim
from envs.errors import ArenaError, ScenarioError, one_line
from envs.loading import imports
from envs.types import ThreatModel

TIMEOUT = 60.0
"""Seconds to wait for an answer, where a scenario says nothing."""


class RemoteSettings(NamedTuple):
    """What a scenario says of a victim elsewhere; see `arena.scenario.schema_parts.VictimSpec`."""

    use: str
    params: Mapping[str, object] = {}
    api_key_env: str | None = None
    rate: float | None = None
    batch: int | None = None
    timeout: float | None = None


def connect(
    settings: RemoteSettings,
    threat: ThreatModel,
    *,
    device: torch.device,
    note: Callable[[str], None],
) -> RemoteVictim:
    """Reach a victim, and ask it for what it is and has counted; no image is asked.

    Args:
        settings: how it is reached.
        threat: of the game; its budget is what the ledger allows.
        device: where answers are put.
        note: takes a line for the log.

    Raises:
        DataMissing: the API key is not there.
        ScenarioError: it takes other images, or answers other classes.
        ArenaError: it cannot be reached, or is none.
    """
    channel = _channel(settings, threat)
    ledger = QueryLedger(threat.budget)
    line = PatientChannel(channel, ledger, rate=settings.rate, batch=settings.batch, note=note)
    try:
        line.open()
    except ArenaError:
        line.close()
        raise
    return RemoteVictim(
        line,
        imports.short_name(settings.use),
        num_classes=threat.num_classes,
        image_shape=threat.image_shape,
        labels=threat.labels,
        device=device,
    )


def _channel(settings: RemoteSettings, threat: ThreatModel) -> Channel:
    key = None if settings.api_key_env is None else read_key(settings.api_key_env)
    if not is_url(settings.use):
        return AdapterChannel(imports.short_name(settings.use), _adapter(settings, key), secret=key)
    try:
        from arena.http.client import InferenceClient, ModelChannel
    except ImportError as error:
        raise ScenarioError(
            f"victim.use = '{settings.use}' needs httpx; pip install 'fortress-arena[serve]'"
        ) from error
    client = InferenceClient(
        settings.use,
        key=key,
        timeout=settings.timeout or TIMEOUT,
        proxies=not is_loopback(settings.use),
    )
    try:
        told = persistently(client.metadata)
        form = Form(told, settings.use, image_shape=threat.image_shape,
                    num_classes=threat.num_classes)  # fmt: skip
    except ArenaError:
        client.close()
        raise
    return ModelChannel(client, form)


def _adapter(settings: RemoteSettings, key: str | None) -> object:
    """Make an object of the user's class; it takes `api_key` and `timeout` where it wants them."""
    found = imports.from_file(settings.use)
    if not isinstance(found, type):
        raise ScenarioError(f"{settings.use}: expected a class, got {type(found).__name__}")
    offered = {"api_key": key, "timeout": settings.timeout or TIMEOUT}
    try:
        signature = inspect.signature(found)
        taken = {name: one for name, one in offered.items() if name in signature.parameters}
        signature.bind(**taken, **settings.params)
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"{settings.use}: {error}") from None
    try:
        return found(**taken, **settings.params)
    except Exception as error:  # of the user's code
        told = without_secret(one_line(error), key)
        raise ScenarioError(f"{settings.use}: {told}") from None
