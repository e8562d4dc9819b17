"""A body that is too large is refused whichever route it is sent to, packed or not, and nothing of it is kept."""

import gzip
import json

import httpx

from server.app import create_app
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
