"""What requests are signed with, answer by answer: tokens are got, kept, renewed and given up."""

import stat
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tcloud.credentials import ClientCredentials, SignedIn, SignInError, service_credentials
from tcloud.token_store import FILE_NAME, Tokens, TokenStore

URL = "https://tempomesh.test/sqlmesh/acme/web"
TOKEN_URL = "https://tempomesh.test/auth/token"


def answer(to: httpx.Request, status: int = 200, **body: Any) -> httpx.Response:
    return httpx.Response(status, json=body, request=to)


def issued(number: int, seconds: int = 600, **more: str) -> dict[str, Any]:
    return {"access_token": f"a{number}", "id_token": f"i{number}", "expires_in": seconds, "scope": "all", **more}


def begin(credentials: httpx.Auth) -> tuple[Generator[httpx.Request, httpx.Response, None], httpx.Request]:
    flow = credentials.sync_auth_flow(httpx.Request("GET", f"{URL}/api/plans"))
    return flow, next(flow)


def bearer(request: httpx.Request) -> str:
    return request.headers["Authorization"].removeprefix("Bearer ")


def test_a_client_gets_a_token_and_keeps_it(tmp_path: Path) -> None:
    store = TokenStore(tmp_path, "ci at https://tempomesh.test")
    credentials = ClientCredentials(TOKEN_URL, "ci", "secret", "tbk:scope:projects", store)
    flow, asked = begin(credentials)
    assert (asked.method, str(asked.url)) == ("POST", TOKEN_URL)
    assert asked.headers["Authorization"].startswith("Basic ")
    assert b"grant_type=client_credentials" in asked.content
    assert b"secret" not in asked.content
    assert bearer(flow.send(answer(asked, **issued(1)))) == "i1"
    assert bearer(begin(credentials)[1]) == "i1"
    nowhere = TokenStore(tmp_path / FILE_NAME, "a folder that cannot be")
    flow, asked = begin(ClientCredentials(TOKEN_URL, "ci", "secret", "", nowhere))
    assert bearer(flow.send(answer(asked, **issued(3)))) == "i3"
    # So does the next process.
    assert bearer(begin(ClientCredentials(TOKEN_URL, "ci", "secret", "", store))[1]) == "i1"
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert "secret" not in (tmp_path / FILE_NAME).read_text()

    # A token that is refused is replaced, once.
    flow, signed = begin(credentials)
    asked = flow.send(answer(signed, 401))
    assert str(asked.url) == TOKEN_URL
    again = flow.send(answer(asked, **issued(2)))
    assert bearer(again) == "i2"
    with pytest.raises(StopIteration):
        flow.send(answer(again, 401))


@pytest.mark.parametrize(
    ("status", "body", "message", "is_refusal"),
    [
        (401, {"error": "invalid_client"}, "does not take the secret of client 'ci'", True),
        (400, {"error": "invalid_scope"}, "knows no such scope: check TCLOUD_SCOPE", True),
        (404, {}, "No token endpoint answers at https://tempomesh.test/auth/token: whoever does said 404", True),
        (200, {"token": "?"}, "No token endpoint answers", False),
        (429, {"error": "temporarily_unavailable"}, "too many attempts", False),
        (503, {}, "answered 503", False),
    ],
)
def test_a_token_endpoint_that_gives_none(status: int, body: dict[str, str], message: str, is_refusal: bool) -> None:
    flow, asked = begin(ClientCredentials(TOKEN_URL, "ci", "secret", "scope"))
    with pytest.raises(SignInError, match=message) as caught:
        flow.send(answer(asked, status, **body))
    assert caught.value.is_refusal is is_refusal
    assert "\n" not in str(caught.value)


async def test_a_worker_renews_its_token_while_it_works() -> None:
    credentials = ClientCredentials(TOKEN_URL, "executor", "secret", "scope")
    asked_for = []

    def serve(request: httpx.Request) -> httpx.Response:
        if str(request.url) == TOKEN_URL:
            asked_for.append(request)
            return answer(request, **issued(len(asked_for)))
        return answer(request, 200 if bearer(request) == f"i{valid}" else 401, token=request.headers["Authorization"])

    async with httpx.AsyncClient(transport=httpx.MockTransport(serve), auth=credentials) as http:
        valid = 1
        for _ in range(3):
            assert (await http.get(URL)).status_code == 200
        assert len(asked_for) == 1
        valid = 2
        assert (await http.post(URL, content=b"body")).status_code == 200
        assert len(asked_for) == 2
        valid = 9
        assert (await http.get(URL)).status_code == 401
        assert len(asked_for) == 3


def test_a_person_stays_signed_in(tmp_path: Path) -> None:
    store = TokenStore(tmp_path, "https://tempomesh.test")
    credentials = SignedIn("https://tempomesh.test", "https://tempomesh.test/auth", TOKEN_URL, store)
    assert "Authorization" not in begin(credentials)[1].headers
    # Without a terminal nobody is asked to sign in.
    flow, request = begin(credentials)
    with pytest.raises(StopIteration):
        flow.send(answer(request, 401))

    def keep(seconds: float, number: int = 1) -> None:
        now = time.time()
        tokens = Tokens(
            id_token=f"i{number}", refresh_token="r1", client_id="tcloud", issued_at=now - 600, expires_at=now + seconds
        )
        with store.locked():
            store.write(tokens)

    keep(300)
    assert bearer(begin(credentials)[1]) == "i1"
    keep(10)
    flow, asked = begin(credentials)
    assert b"refresh_token=r1" in asked.content
    assert b"client_id=tcloud" in asked.content
    assert bearer(flow.send(answer(asked, **issued(2, refresh_token="r2")))) == "i2"
    kept = store.read()
    assert kept is not None
    assert kept.refresh_token == "r2"

    keep(-10)
    flow, asked = begin(credentials)
    request = flow.send(answer(asked, 400, error="invalid_grant"))
    assert "Authorization" not in request.headers
    assert store.read() is None


def test_tokens_of_servers_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("id_token: of another client\nexpires_at: 1\n")
    one, two = (TokenStore(tmp_path, name) for name in ("one", "two"))
    assert one.read() is None
    for store in (one, two):
        with store.locked():
            store.write(Tokens(id_token="t", refresh_token="r", issued_at=0, expires_at=1))
    with one.locked():
        one.write(None)
    assert (one.read(), two.read() is None) == (None, False)
    (tmp_path / FILE_NAME).write_text(": no yaml: [")
    assert two.read() is None


def test_a_worker_needs_an_id_and_a_secret() -> None:
    with pytest.raises(ValueError, match="No token: set TCLOUD_TOKEN"):
        service_credentials(URL, None, "executor", None, None, "scope")
    with pytest.raises(ValueError, match="No token: set TCLOUD_TOKEN"):
        service_credentials(URL, SecretStr(""), "executor", SecretStr(""), None, "scope")
