"""The console events of plans and runs, as server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import orjson
from fastapi import APIRouter, Header, Request
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse, ServerSentEvent

from server.access import Access
from server.api.dependencies import SeesRecord
from server.api.queries import check_asker
from server.events import events_after
from server.owners import final_status, owner_of
from tcloud.wire.executions import ConsoleEvent

__all__ = ["router"]

router = APIRouter(tags=["progress"])

_POLL_SECONDS = 0.1
_EVENTS_AT_ONCE = 500
_KEEPALIVE_SECONDS = 15
_STOP_SECONDS = 2

_STREAM: dict[str, Any] = {
    "response_class": EventSourceResponse,
    "response_model": None,
    "responses": {
        200: {
            "description": "`console` events, each a `ConsoleEvent`, then one `end` with `status` and `error_message`.",
            "content": {"text/event-stream": {"schema": ConsoleEvent.model_json_schema()}},
        }
    },
}

LastEventId = Annotated[int, Header(description="Where to go on after a lost connection.")]


@router.get("/plans/{owner_id}/events", summary="Follow a plan", **_STREAM)
@router.get("/runs/{owner_id}/events", summary="Follow a run", **_STREAM)
@router.get("/queries/{owner_id}/events", summary="Follow a query", **_STREAM)
async def follow(
    owner_id: str, request: Request, access: SeesRecord, last_event_id: LastEventId = 0
) -> EventSourceResponse:
    """Streams `console` events (a `ConsoleEvent` each, the id is its number) and one `end` with status and error."""
    await run_in_threadpool(_check, access, owner_id)
    stopping = anyio.Event()
    return EventSourceResponse(
        _stream(request, stopping, access, owner_id, last_event_id),
        ping=_KEEPALIVE_SECONDS,
        shutdown_event=stopping,
        shutdown_grace_period=_STOP_SECONDS,
    )


async def _stream(
    request: Request, stopping: anyio.Event, access: Access, owner_id: str, sequence: int
) -> AsyncIterator[bytes | ServerSentEvent]:
    # Where the server stops, the stream just ends: the client goes on where it was, once there is a server again.
    while not stopping.is_set() and not await request.is_disconnected():
        end, events = await run_in_threadpool(_read, access, owner_id, sequence)
        if events:
            sequence = events[-1][0]
            # All of them in one piece: each piece goes through every layer between here and the socket.
            yield b"".join(
                ServerSentEvent(event.model_dump_json(), event="console", id=str(number)).encode()
                for number, event in events
            )
        if len(events) == _EVENTS_AT_ONCE or (events and end):
            continue
        if end is not None:
            status, error = end
            yield ServerSentEvent(
                orjson.dumps({"status": status, "error_message": error}).decode(), event="end", id=str(sequence)
            )
            return
        await anyio.sleep(_POLL_SECONDS)


def _check(access: Access, owner_id: str) -> None:
    with access.database.transaction(access.project) as transaction:
        owner = owner_of(transaction, owner_id)
    access.see(owner.environment)
    if owner.asked_by is not None:
        check_asker(access, owner_id, owner.asked_by)


def _read(
    access: Access, owner_id: str, sequence: int
) -> tuple[tuple[str, str | None] | None, list[tuple[int, ConsoleEvent]]]:
    with access.database.transaction(access.project) as transaction:
        if events := events_after(transaction, owner_id, sequence, _EVENTS_AT_ONCE):
            return None, events
        end = final_status(transaction, owner_id)
        # Read again: what was appended before the status became final, but after the first look.
        return end, events_after(transaction, owner_id, sequence, _EVENTS_AT_ONCE) if end else []
