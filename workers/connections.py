"""How a worker finds its way: the server says where Temporal is and how its payloads are sealed."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from tcloud.api.executor import RefusedError
from tcloud.wire.executors import Bootstrap
from workflows.codec import data_converter

__all__ = ["CannotStartError", "NotReachableError", "bootstrap", "connect_temporal"]

_log = structlog.get_logger(__name__)
_RETRY_SECONDS = 1.0


class CannotStartError(Exception):
    """This process will not start however long it waits; the message says why."""


class NotReachableError(CannotStartError):
    """Something this process needs does not answer."""


async def bootstrap(ask: Callable[[], Awaitable[Bootstrap]], url: str, patience: timedelta) -> Bootstrap:
    """Asks the server what this process has to know, and waits for a server that is still starting.

    Raises:
        NotReachableError: If the server does not answer in time.
        CannotStartError: If the token is refused, or is not one of an executor or worker.
    """
    deadline = asyncio.get_running_loop().time() + patience.total_seconds()
    while True:
        try:
            answer = await ask()
        except RefusedError as error:
            raise CannotStartError(str(error)) from error
        except httpx.HTTPStatusError as error:
            if error.response.is_client_error:
                raise CannotStartError(error.response.json().get("message", str(error))) from error
            reason = str(error)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
        else:
            if answer.temporal is None or not answer.codec_keys:
                raise CannotStartError(
                    "This token is not one of an executor or worker: the server keeps Temporal back."
                )
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
        )
    except (RPCError, RuntimeError) as error:
        raise NotReachableError(f"Temporal at {temporal.address} cannot be reached: {error}") from error
