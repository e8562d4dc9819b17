"""Temporal's Web UI has payloads decoded: with a token, or without one where the server was told so."""

import base64
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from temporalio.api.common.v1 import Payloads
from temporalio.converter import DataConverter

from server.app import create_app
from server.projects import Project, Role
from tests.integration.server.conftest import CODEC_KEYS, PROJECT, RunningServer
from workflows.codec import data_converter
from workflows.plan_payloads import PlanRef

UI = "http://127.0.0.1:8233"


@pytest.fixture
def converter() -> DataConverter:
    return data_converter({key_id: base64.b64decode(key) for key_id, key in CODEC_KEYS.items()})


@pytest.fixture
async def sealed(converter: DataConverter) -> dict[str, Any]:
    """What the Web UI sends of a workflow's input."""
    payloads = await converter.encode([PlanRef(environment="prod", plan_id="plan-1")])
    found: dict[str, Any] = MessageToDict(Payloads(payloads=payloads))
    return found


def test_decoded_and_encoded_again(server: RunningServer, sealed: dict[str, Any]) -> None:
    with server.client(Role.VIEWER) as viewer, server.client(Role.ADMIN) as admin:
        decoded = viewer.post("codec/decode", json=sealed).raise_for_status().json()
        (payload,) = decoded["payloads"]
        assert base64.b64decode(payload["metadata"]["encoding"]) == b"json/plain"
        assert b'"plan-1"' in base64.b64decode(payload["data"])
        assert viewer.post("codec/decode", json=decoded).json() == decoded
        encoded = admin.post("codec/encode", json=decoded).raise_for_status().json()
        assert encoded != decoded
        assert viewer.post("codec/decode", json=encoded).json() == decoded
        damaged = {"payloads": [{**sealed["payloads"][0], "data": base64.b64encode(bytes(64)).decode()}]}
        answer = viewer.post("codec/decode", json=damaged)
        assert (answer.status_code, answer.json()["code"]) == (422, "TM-CODEC")


@pytest.mark.parametrize(
    ("is_open", "origin", "caller", "status"),
    [
        (True, UI, "127.0.0.1", 200),
        (True, "http://localhost:8233", "127.0.0.1", 200),
        (True, "http://evil.test", "127.0.0.1", 401),
        (True, None, "127.0.0.1", 401),
        (True, UI, "10.0.0.7", 401),
        (False, UI, "127.0.0.1", 401),
    ],
)
async def test_without_a_token(
    server: RunningServer, sealed: dict[str, Any], is_open: bool, origin: str | None, caller: str, status: int
) -> None:
    changed = {
        "temporal_ui_url": UI,
        "codec_origins": ["http://localhost:8233"],
        "codec_open_to_loopback": is_open,
    }
    app = create_app(server.settings.model_copy(update=changed), server.database, [Project("local", "main")])
    transport = httpx.ASGITransport(app, client=(caller, 5000))
    headers = {"Origin": origin} if origin else {}
    base_url = f"http://test/sqlmesh/{PROJECT.org}/{PROJECT.name}/api/"
    async with httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers) as client:
        answer = await client.post("codec/decode", json=sealed)
        assert answer.status_code == status
        assert (await client.post("codec/encode", json=sealed)).status_code == 401
        allowed = answer.headers.get("access-control-allow-origin")
        assert allowed == (origin if origin and "evil" not in origin else None)
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-namespace"}
        preflight = await client.options("codec/decode", headers=asked)
        assert (preflight.headers.get("access-control-allow-origin") is not None) == (allowed is not None)
        other = await client.options("plans", headers=asked)
        assert "access-control-allow-origin" not in other.headers
