"""The codec endpoint that Temporal's Web UI and command line have payloads decoded by.

The protocol is Temporal's remote data encoding: payloads as protobuf's JSON, in and out.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload

from server.access import Access, require
from server.api.dependencies import Temporal
from server.cors import ui_origins
from server.errors import ApiError
from server.settings import ServerSettings
from tcloud.wire.grants import Action

__all__ = ["router"]

router = APIRouter(tags=["codec"])

_LOOPBACK = ("127.0.0.1", "::1")
Coded = Callable[[Sequence[Payload]], Awaitable[list[Payload]]]
_bearer = HTTPBearer(auto_error=False)
_viewer = require(Action.VIEW, doing="codec.decode")


class CodecPayload(BaseModel):
    """A payload of Temporal; bytes are base64."""

    metadata: dict[str, str] = {}
    data: str = ""


class CodecPayloads(BaseModel):
    """Payloads in the order in which they were sent."""

    payloads: list[CodecPayload] = []


async def _may_decode(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    settings: ServerSettings = request.app.state.settings
    is_here = request.client is not None and request.client.host in _LOOPBACK
    # A page of somebody else's in the same browser has another origin, and a browser does not lie about it.
    is_ui = request.headers.get("origin") in ui_origins(settings)
    if settings.codec_open_to_loopback and credentials is None and is_here and is_ui:
        return
    await _viewer(request, credentials)


_may_decode.permission = _viewer.permission  # type: ignore[attr-defined]


@router.post("/codec/decode", summary="Decode payloads of Temporal", dependencies=[Depends(_may_decode)])
async def decode(body: CodecPayloads, temporal: Temporal) -> CodecPayloads:
    """Decrypts what this project's keys encrypted; payloads that are not encrypted come back as they are."""
    return await _through(temporal.codec.decode, body)


@router.post("/codec/encode", summary="Encode payloads of Temporal")
async def encode(
    body: CodecPayloads,
    temporal: Temporal,
    _access: Annotated[Access, Depends(require(Action.MANAGE, doing="codec.encode"))],
) -> CodecPayloads:
    """Encrypts payloads with the project's newest key, as for a signal that is sent by hand."""
    return await _through(temporal.codec.encode, body)


async def _through(coded: Coded, body: CodecPayloads) -> CodecPayloads:
    try:
        return CodecPayloads(payloads=[_shown(p) for p in await coded([_read(p) for p in body.payloads])])
    except (ValueError, KeyError, binascii.Error) as error:
        raise ApiError(422, "TM-CODEC", f"The payloads cannot be read: {error}") from error


def _read(payload: CodecPayload) -> Payload:
    metadata = {name: base64.b64decode(value) for name, value in payload.metadata.items()}
    return Payload(metadata=metadata, data=base64.b64decode(payload.data))


def _shown(payload: Payload) -> CodecPayload:
    metadata = {name: base64.b64encode(value).decode() for name, value in payload.metadata.items()}
    return CodecPayload(metadata=metadata, data=base64.b64encode(payload.data).decode())
