"""A body that is too large is refused whichever route it is sent to, packed or not, and nothing of it is kept."""

import gzip
import json
import socket
from urllib.parse import urlsplit

import httpx
from structlog.testing import capture_logs

from server.app import create_app
from tests.eventually import eventually
from tests.integration.server.conftest import PROJECT, RunningServer


async def test_a_body_that_is_too_large(server: RunningServer) -> None:
    settings = server.settings.model_copy(update={"max_body_bytes": 4096})
    app = create_app(settings, server.database, [PROJECT])
    body = json.dumps({"environment": {"name": "x" * 5000}}).encode()
    headers = {"Authorization": "Bearer admin-token", "Content-Type": "application/json"}
    origin = {"gateway": "warehouse", "sqlmesh_version": "0"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test/sqlmesh/local/main/api/") as client:
        for content, more in ((body, {}), (gzip.compress(body), {"Content-Encoding": "gzip"})):
            for path, role in (("plans", "admin"), ("runs", "admin"), ("leases", "executor")):
                sent = {**headers, **more, "Authorization": f"Bearer {role}-token"}
                answer = await client.post(path, content=content, headers=sent, params=origin)
                assert (answer.status_code, answer.json()["code"]) == (413, "TM-SIZE"), path
                assert "TEMPOMESH_SERVER_MAX_BODY_BYTES" in answer.json()["message"]
        assert (await client.get("plans", headers=headers)).json() == []


def test_a_body_that_is_cut_on_its_way(server: RunningServer, admin: httpx.Client) -> None:
    body = json.dumps({"environment": {"name": "prod", "plan_id": "plan-1"}, "more": ["x"] * 1000}).encode()
    packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    origin = {"gateway": "warehouse", "sqlmesh_version": "0.236.4"}
    cut = admin.post("plans", content=gzip.compress(body)[:-20], headers=packed, params=origin)
    assert (cut.status_code, cut.json()["code"]) == (400, "TM-HTTP")
    assert "cut on its way" in cut.json()["message"]
    for content in (
        *(body[:500], b"", b"[]", b"5", b"{}", b'{"environment": 5}', b"\xff", b'{"environment": {"name": "prod"}}'),
        *(b'{"environment": {"name": "prod", "plan_id": 7}}', b'{"environment": {"name": "prod", "plan_id": "../x"}}'),
    ):
        answer = admin.post("plans", content=content, params=origin)
        assert (answer.status_code, answer.json()["code"]) == (422, "TM-PLAN"), content
        assert len(answer.json()["message"].splitlines()) == 1
    url = urlsplit(server.url)
    head = f"POST {url.path}/api/plans?gateway=w&sqlmesh_version=0 HTTP/1.1\r\nHost: test\r\nContent-Length: 9999\r\n"
    with socket.create_connection((url.hostname, url.port)) as connection, capture_logs() as logs:
        connection.sendall(f"{head}Authorization: Bearer admin-token\r\n\r\n".encode() + body[:500])
        eventually(lambda: admin.get("plans").is_success)
        connection.close()
        eventually(lambda: any(line["event"] == "client_gone" for line in logs))
    assert not [line for line in logs if line["log_level"] == "error"]
    assert admin.get("plans").json() == []
