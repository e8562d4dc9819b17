"""Following a plan or a run: the server's events, across lost connections."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from httpx_sse import ServerSentEvent, connect_sse
from pydantic import BaseModel

from tcloud.api.answers import not_signed_in, raise_for_answer, unreachable
from tcloud.credentials import SignInError
from tcloud.errors import NotReachableError
from tcloud.wire.executions import ConsoleEvent

__all__ = ["End", "StreamEvent", "follow"]

_GIVE_UP_AFTER_SECONDS = 120.0
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
# The server writes a comment every 15 seconds; three missed ones mean that the connection is dead.
_STREAM_TIMEOUT = httpx.Timeout(10, read=45)


class End(BaseModel):
    """How a plan or run ended: the last event of its stream."""

    status: str
    """One of the contract's statuses, or `nothing_to_do` for a run that found nothing due."""
    error_message: str | None = None


StreamEvent = ConsoleEvent | End


@dataclass
class _Position:
    last_id: str = ""


def follow(http: httpx.Client, path: str) -> Iterator[StreamEvent]:
    """Yields every event once and in order, from the first to the `End`.

    A lost connection is taken up again after the last event that was seen, silently, for up to two minutes.

    Raises:
        NotReachableError: If the server stays away longer than that.
        TcloudError: If it refuses.
    """
    position = _Position()
    lost_since: float | None = None
    pause_seconds = _FIRST_PAUSE_SECONDS
    url = str(http.base_url).removesuffix("/api/")
    while True:
        failure: NotReachableError | None = None
        try:
            for event in _stream(http, path, position, url):
                lost_since, pause_seconds = None, _FIRST_PAUSE_SECONDS
                yield event
                if isinstance(event, End):
                    return
        except httpx.TransportError as error:
            failure = unreachable(url, error)
        except SignInError as error:
            if error.is_refusal:
                raise not_signed_in(error) from error
            failure = NotReachableError(str(error))
        except NotReachableError as error:
            failure = error
        lost_since = lost_since or time.monotonic()
        if failure and time.monotonic() - lost_since > _GIVE_UP_AFTER_SECONDS:
            raise failure
        time.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)


def _stream(http: httpx.Client, path: str, position: _Position, url: str) -> Iterator[StreamEvent]:
    headers = {"Last-Event-ID": position.last_id} if position.last_id else {}
    with connect_sse(http, "GET", path, headers=headers, timeout=_STREAM_TIMEOUT) as source:
        if not source.response.is_success:
            source.response.read()
            raise_for_answer(source.response, url)
        for sent in source.iter_sse():
            event = _parse(sent)
            # Only now: an event that could not be read is asked for again.
            position.last_id = sent.id or position.last_id
            if event is not None:
                yield event


def _parse(sent: ServerSentEvent) -> StreamEvent | None:
    match sent.event:
        case "console":
            return ConsoleEvent.model_validate_json(sent.data)
        case "end":
            return End.model_validate_json(sent.data)
        case _:
            return None
