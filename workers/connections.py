"""How a worker finds its way: the server says where Temporal is and how its payloads are sealed."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import httpx
import structlog
from pydantic import ValidationError
from temporalio.client import Client
from temporalio.service import RPCError

from tcloud.api.control import ControlApi
from tcloud.api.executor import RefusedError
from tcloud.tracing import is_tracing
from tcloud.wire.executors import Bootstrap
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
    "temporal_of",
]

_log = structlog.get_logger(__name__)
_RETRY_SECONDS = 1.0


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
    """Connects to the project's namespace.

    Raises:
        NotReachableError: If Temporal does not answer.
    """
    temporal = known.temporal
    assert temporal is not None  # noqa: S101 - `bootstrap` refuses an answer without it
    keys = {key_id: base64.b64decode(key) for key_id, key in (known.codec_keys or {}).items()}
    try:
        return await Client.connect(
            temporal.address,
            namespace=temporal.namespace,
            tls=temporal.tls,
            data_converter=data_converter(keys),
            identity=identity,
            interceptors=temporal_interceptors(is_tracing=is_tracing()),
        )
    except (RPCError, RuntimeError) as error:
        raise NotReachableError(f"Temporal at {temporal.address} cannot be reached: {error}") from error


async def temporal_of(settings: WorkerSettings, identity: str) -> Client:
    """Connects to the project's namespace, for a command that serves no queue.

    Raises:
        CannotStartError: If the server or Temporal cannot be reached, or the token is refused.
    """
    async with ControlApi(settings.url, settings.bearer) as api:
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
