"""How a worker finds its way: the server says where Temporal is and how its payloads are sealed."""

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx
import structlog
from pydantic import ValidationError
from temporalio.client import Client
from temporalio.envconfig import ClientConfigProfile, ClientConnectConfig
from temporalio.service import RPCError, TLSConfig

from tcloud.api.control import ControlApi
from tcloud.api.executor import RefusedError
from tcloud.credentials import SignInError
from tcloud.tracing import is_tracing
from tcloud.wire.executors import Bootstrap, TemporalAddress
from telemetry.temporal_traces import temporal_interceptors
from workers.settings import WorkerSettings
from workflows.codec import data_converter

__all__ = [
    "CannotStartError",
    "NotAllowedError",
    "NotReachableError",
    "WrongSettingsError",
    "bootstrap",
    "connect_temporal",
    "is_renewed",
    "keep_signed_in",
    "temporal_of",
]

_log = structlog.get_logger(__name__)
_RETRY_SECONDS = 1.0
_RENEW_SECONDS = 20.0
_CONFIGURED_BY = ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE")
"""A process that has one of these reaches Temporal as its own variables say, and not as the server does."""


class CannotStartError(Exception):
    """This process will not start however long it waits; the message says why."""


class NotReachableError(CannotStartError):
    """Something this process needs does not answer."""


class NotAllowedError(CannotStartError):
    """The token is missing, wrong, or of another role."""


class WrongSettingsError(CannotStartError):
    """A variable that this process reads is missing or means nothing."""


async def bootstrap(ask: Callable[[], Awaitable[Bootstrap]], url: str, patience: timedelta) -> Bootstrap:
    """Asks the server what this process has to know, and waits for a server that is still starting.

    Raises:
        NotReachableError: If the server does not answer in time.
        NotAllowedError: If the token is refused, or is not one of an executor or worker.
        WrongSettingsError: If the server has no such project, or is none of Tempomesh.
    """
    deadline = asyncio.get_running_loop().time() + patience.total_seconds()
    while True:
        try:
            answer = await ask()
        except RefusedError as error:
            raise _refused(error.status, str(error)) from error
        except SignInError as error:
            if error.is_refusal:
                raise _refused(error.status, str(error)) from error
            reason = str(error)
        except httpx.HTTPStatusError as error:
            if error.response.is_client_error:
                raise _refused(error.response.status_code, _message(error.response)) from error
            reason = str(error)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
        except ValidationError as error:
            raise WrongSettingsError(f"No Tempomesh server answers at {url}. Check TCLOUD_URL.") from error
        else:
            if answer.temporal is None or not answer.codec_keys:
                raise NotAllowedError("This token is not one of an executor or worker: the server keeps Temporal back.")
            return answer
        if asyncio.get_running_loop().time() > deadline:
            raise NotReachableError(f"The server at {url} cannot be reached: {reason}. Check TCLOUD_URL.")
        _log.info("waiting_for_server", url=url, reason=reason)
        await asyncio.sleep(_RETRY_SECONDS)


async def connect_temporal(known: Bootstrap, identity: str) -> Client:
    """Connects to the project's namespace: where this process's own variables say, else where the server says.

    Raises:
        NotReachableError: If Temporal does not answer, or takes no calls of this process.
        WrongSettingsError: If Temporal's variables name what is not there.
    """
    keys = {key_id: base64.b64decode(key) for key_id, key in (known.codec_keys or {}).items()}
    where = _where(known)
    try:
        return await Client.connect(
            where["target_host"],
            namespace=_temporal(known).namespace,
            tls=where.get("tls", False),
            api_key=where.get("api_key"),
            rpc_metadata=where.get("rpc_metadata", {}),
            data_converter=data_converter(keys),
            identity=identity,
            interceptors=temporal_interceptors(is_tracing=is_tracing()),
        )
    except (RPCError, RuntimeError) as error:
        raise NotReachableError(f"Temporal at {where['target_host']} cannot be reached: {error}") from error


async def keep_signed_in(client: Client, ask: Callable[[], Awaitable[Bootstrap]]) -> None:
    """Shows Temporal a fresh token in good time, where it is the server that gives them; never returns by itself.

    The server is asked much more often than tokens expire: one that was started anew may have other keys, and the SDK
    gives a worker up whose token was refused for a minute.
    """
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        try:
            token = _temporal(await ask()).token
        except (httpx.HTTPError, RefusedError, SignInError, ValidationError) as error:
            _log.warning("token_not_renewed", reason=str(error) or type(error).__name__)
            continue
        if token is not None:
            client.api_key = token


def is_renewed(known: Bootstrap) -> bool:
    """Whether it is a token of the server's that this process shows to Temporal."""
    return _temporal(known).token is not None and not _is_configured()


def _where(known: Bootstrap) -> ClientConnectConfig:
    """The arguments of `Client.connect`."""
    temporal = _temporal(known)
    if _is_configured():
        try:
            own = ClientConfigProfile.load().to_client_connect_config()
        except (RuntimeError, OSError) as error:
            raise WrongSettingsError(f"Temporal's variables (TEMPORAL_…) or its configuration file: {error}") from error
        return {"target_host": temporal.address, **own}
    told: ClientConnectConfig = {"target_host": temporal.address, "tls": _tls(temporal)}
    if temporal.token is not None:
        told["api_key"] = temporal.token
    return told


def _is_configured() -> bool:
    # The user's own profile of Temporal, which is read where nothing is said, is not meant for this process.
    return any(name in os.environ for name in _CONFIGURED_BY)


def _tls(temporal: TemporalAddress) -> bool | TLSConfig:
    if not temporal.tls:
        return False
    roots = os.environ.get("SSL_CERT_FILE")
    return TLSConfig(server_root_ca_cert=Path(roots).read_bytes()) if roots else True


def _temporal(known: Bootstrap) -> TemporalAddress:
    assert known.temporal is not None  # noqa: S101 - `bootstrap` refuses an answer without it
    return known.temporal


async def temporal_of(settings: WorkerSettings, identity: str) -> Client:
    """Connects to the project's namespace, for a command that serves no queue.

    Raises:
        CannotStartError: If the server or Temporal cannot be reached, or the token is refused.
    """
    async with ControlApi(settings.url, settings.credentials) as api:
        return await connect_temporal(await bootstrap(api.bootstrap, settings.url, settings.start_patience), identity)


def _refused(status: int, message: str) -> CannotStartError:
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return NotAllowedError(message)
    return WrongSettingsError(message)


def _message(response: httpx.Response) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(response.json()["message"])
    return (
        f"No Tempomesh server answers at {response.request.url}: whoever does said {response.status_code}. "
        "Check TCLOUD_URL."
    )
