"""What strangers and browsers may do: little, and not for long."""

import gzip
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from server.app import create_app
from server.projects import Role
from tests.integration.server.conftest import PROJECT, RunningServer

LARGE = bytes(17 * 1024 * 1024)


async def test_what_strangers_may_do(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    root = server.url.split("/sqlmesh")[0]
    async with httpx.AsyncClient(base_url=root, trust_env=False, timeout=60) as anybody:
        for path in ("/healthz", "/openapi.json", "/docs", "/nothing", f"{urlsplit(server.url).path}/api/plans"):
            answer = await anybody.get(path)
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert answer.headers["referrer-policy"] == "no-referrer", path
            assert answer.headers["cache-control"] == "no-store", path
            assert "default-src 'none'" in answer.headers["content-security-policy"], path
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], path
            assert "strict-transport-security" not in answer.headers, "TLS is somebody else's there"
            assert "server" not in answer.headers, path
        page = await anybody.get("/docs")
        assert (
            "script-src https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/ 'sha256-"
            in (page.headers["content-security-policy"])
        )
        # Before anybody has looked at the token, or after: what is parsed is small.
        for content, headers in ((LARGE, {}), (gzip.compress(LARGE), {"Content-Encoding": "gzip"})):
            for token in ({}, {"Authorization": "Bearer executor-token"}):
                answer = await anybody.post(f"{server.url}/api/leases", content=content, headers={**headers, **token})
                assert (answer.status_code, answer.json()["code"]) == (413, "TM-SIZE")
                assert "as much as this call takes" in answer.json()["message"]
    app = create_app(server.settings, server.database, [PROJECT])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://test") as behind_tls:
        assert "max-age" in (await behind_tls.get("/healthz")).headers["strict-transport-security"]

    monkeypatch.setattr("server.bodies._PATIENCE_SECONDS", 0.2)
    head = f"POST {urlsplit(server.url).path}/api/leases HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
    with socket.create_connection((urlsplit(root).hostname, urlsplit(root).port)) as connection:
        connection.sendall(head.encode() + b"{")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    monkeypatch.setattr("server.http_protocol._HEAD_SECONDS", 0.2)
    for begun, status in (
        (b"", b"408"),
        (b"GET /healthz HTTP/1.1\r\nHost: x", b"408"),
        (b"GET / HTTP/1.1\r\nX: ", b"431"),
    ):
        with socket.create_connection((urlsplit(root).hostname, urlsplit(root).port)) as connection:
            connection.sendall(begun)
            if status == b"431":
                with suppress(ConnectionError):
                    connection.sendall(b"x" * 100_000)
            assert connection.recv(100).startswith(b"HTTP/1.1 " + status)
            with suppress(ConnectionError):
                while connection.recv(1000):
                    pass


def test_large_documents_pass_behind_the_door(server: RunningServer) -> None:
    with server.client(Role.EXECUTOR) as executor:
        answer = executor.put("executions/x", content=LARGE)
        assert (answer.status_code, answer.json()["code"]) == (422, "TM-EXECUTION")
