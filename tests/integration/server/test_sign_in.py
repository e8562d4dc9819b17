"""Signing in: services by their secret, people in a browser, with a password or an account of a provider."""

import base64
import hashlib
import json
import re
import secrets
import webbrowser
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import httpx
import oidc_provider_mock
import pytest
from click.testing import CliRunner, Result
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from pydantic import SecretStr
from sqlalchemy import text

from server import command
from server.projects import Role
from server.sealing import KeyRing
from server.signin.issuing import Issuer
from server.signin.signing import SigningKeys
from stack.ports import free_ports
from tcloud.main import run
from tests.eventually import eventually
from tests.fixtures.databases import PostgresServer
from tests.integration.server.conftest import PROJECT, RunningServer, serving

REDIRECT = "http://127.0.0.1:29525/auth/handler"
OLD_CLIENT = "f695a000-bc5b-43c2-bcb7-8e0179ddff0c"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
FORM_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')

pytestmark = pytest.mark.xdist_group("sign-in")
"""One server is enough for all of them."""


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with oidc_provider_mock.run_server_in_thread() as running:
        yield f"http://localhost:{running.server_port}"


@pytest.fixture(scope="module")
def server(
    postgres: PostgresServer, provider: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    (nowhere,) = free_ports(1)
    settings = {
        "provider": {
            "issuer": provider,
            "client_id": "tempomesh",
            "client_secret": "secret",
            "name": "Example",
            "allowed_domains": ["example.com"],
        },
        "sign_in_failures_per_person": "5 per 1 hour",
        "sign_in_failures_per_address": "60 per 1 hour",
    }
    database = postgres.fresh_database("signin")
    folder = tmp_path_factory.mktemp("signin")
    with serving(database.url, folder, PROJECT.namespace, f"127.0.0.1:{nowhere}", **settings) as running:
        yield running


@pytest.fixture
def http(server: RunningServer) -> Iterator[httpx.Client]:
    """A browser, or a program without a token."""
    with httpx.Client(base_url=server.url.split("/sqlmesh")[0], trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def admin(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client(Role.ADMIN) as client:
        yield client


def fetch(http: httpx.Client, **form: str) -> httpx.Response:
    return http.post("/auth/token", data=form)


def may(server: RunningServer, token: str, path: str = "environments") -> int:
    return httpx.get(
        f"{server.url}/api/{path}", headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
    ).status_code


def is_refused(server: RunningServer, token: str) -> bool:
    return may(server, token) == 401


def submit(http: httpx.Client, page: httpx.Response, path: str, **fields: str) -> httpx.Response:
    found = FORM_TOKEN.search(page.text)
    assert found, page.text
    return http.post(path, data={"form_token": found[1], **fields})


def new_account(admin: httpx.Client, name: str, role: Role = Role.DEVELOPER) -> str:
    made = admin.post("accounts", json={"identity_id": name, "role": role}).raise_for_status()
    return str(made.json()["secret"])


def sign_in(http: httpx.Client, name: str, password: str, path: str) -> httpx.Response:
    """Follows to the page of signing in, and from there as far as the browser goes."""
    page = http.get(path, follow_redirects=True)
    return_to = parse_qs(page.url.query.decode())["return_to"][0]
    answer = submit(http, page, "/auth/login", name=name, password=password, return_to=return_to)
    return http.get(answer.headers["location"], follow_redirects=True) if answer.has_redirect_location else answer


def choose_password(http: httpx.Client, page: httpx.Response, old: str, new: str) -> httpx.Response:
    return_to = parse_qs(page.url.query.decode())["return_to"][0]
    answer = submit(http, page, "/auth/password", current=old, password=new, again=new, return_to=return_to)
    assert answer.status_code == 303, answer.text
    return http.get(answer.headers["location"], follow_redirects=True)


def authorize_path(challenge: str, **changed: str) -> str:
    asked = {
        "response_type": "code",
        "client_id": OLD_CLIENT,
        "redirect_uri": REDIRECT,
        "scope": "tbk:scope:projects",
        "state": "the-state",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **changed,
    }
    return "/auth?" + "&".join(f"{name}={quote(value)}" for name, value in asked.items() if value)


def pkce() -> tuple[str, str]:
    verifier = secrets.token_urlsafe(40)
    digest = hashlib.sha256(verifier.encode()).digest()
    return verifier, base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def consent(http: httpx.Client, page: httpx.Response, answer: str = "yes") -> dict[str, str]:
    """What the person's answer brings to the program on their machine."""
    assert "Let tcloud in?" in page.text
    sent = submit(http, page, f"/auth?{page.url.query.decode()}", answer=answer)
    assert sent.status_code == 302, sent.text
    assert sent.headers["location"].startswith(f"{REDIRECT}?")
    return dict(parse_qsl(urlsplit(sent.headers["location"]).query))


def redeem(http: httpx.Client, code: str, verifier: str, **changed: str) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "client_id": OLD_CLIENT,
        "code_verifier": verifier,
        **changed,
    }
    return fetch(http, **form)


def refresh(http: httpx.Client, token: str) -> httpx.Response:
    return fetch(
        http, grant_type="refresh_token", refresh_token=token, client_id=OLD_CLIENT, scope="tbk:scope:projects"
    )


def test_a_service_trades_its_secret_for_tokens(server: RunningServer, http: httpx.Client, admin: httpx.Client) -> None:
    made = admin.post("clients", json={"identity_id": "ci", "role": "developer"}).raise_for_status().json()
    answer = http.post("/auth/token", data={"grant_type": "client_credentials"}, auth=("ci", made["secret"]))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()
    assert (token["token_type"], token["expires_in"], token["scope"]) == ("Bearer", 600, "tbk:scope:projects")
    assert "refresh_token" not in token

    keys = KeySet.import_key_set(http.get("/auth/jwks.json").json())
    assert "d" not in http.get("/auth/jwks.json").json()["keys"][0]
    claims = jwt.decode(token["id_token"], keys, algorithms=["ES256"]).claims
    # By this, clients of the hosted product tell a service from a person.
    assert claims["sub"] == claims["aud"] == "ci"
    assert claims["exp"] - claims["iat"] == 600
    assert claims["scope"] == "tbk:scope:project:local:main:developer"
    for bearer in (token["access_token"], token["id_token"], made["secret"]):
        assert may(server, bearer) == 200
        assert may(server, bearer, "clients") == 403

    assert http.get("/.well-known/openid-configuration").json()["token_endpoint"].endswith("/auth/token")
    posted = {"client_id": "ci", "client_secret": made["secret"], "grant_type": "client_credentials"}
    narrow = fetch(http, **posted, scope="tbk:scope:project:local:main:viewer").json()
    assert may(server, narrow["id_token"]) == 200
    denied = httpx.post(
        f"{server.url}/api/environments/prod/unschedule",
        headers={"Authorization": f"Bearer {narrow['id_token']}"},
        trust_env=False,
    )
    assert denied.status_code == 403
    assert "The token is limited to viewer" in denied.json()["message"]
    elsewhere = fetch(http, **posted, scope="tbk:scope:project:local:other:admin").json()
    assert may(server, elsewhere["id_token"]) == 403
    assert fetch(http, **posted, scope="everything").json()["error"] == "invalid_scope"
    assert fetch(http, **{**posted, "client_secret": "wrong"}).json()["error"] == "invalid_client"
    assert fetch(http, **{**posted, "client_id": "nobody"}).json()["error"] == "invalid_client"

    # What was issued goes with its secret; a token by itself can be revoked.
    http.post("/auth/revoke", data={"token": narrow["access_token"]}, auth=("ci", made["secret"])).raise_for_status()
    eventually(lambda: may(server, narrow["id_token"]) == 401)
    rotated = admin.post("clients/ci/rotate").raise_for_status().json()
    eventually(lambda: may(server, token["id_token"]) == 401)
    eventually(lambda: may(server, made["secret"]) == 401)
    assert may(server, rotated["secret"]) == 200
    last = fetch(http, **{**posted, "client_secret": rotated["secret"]}).json()
    listed = {client["identity_id"]: client for client in admin.get("clients").json()}
    assert listed["ci"]["roles"] == ["local.main:developer"]
    assert "secret" not in "".join(listed["ci"])
    assert admin.post("clients", json={"identity_id": "ci"}).status_code == 409
    assert admin.post("clients", json={"identity_id": "tcloud"}).status_code == 409
    assert admin.delete("clients/executor").status_code == 409
    assert admin.delete("clients/ci").status_code == 204
    assert admin.delete("clients/ci").status_code == 404
    eventually(lambda: may(server, rotated["secret"]) == 401)
    # The next one of that name is somebody else.
    admin.post("clients", json={"identity_id": "ci", "role": "admin"}).raise_for_status()
    assert may(server, last["id_token"]) == 401
    admin.delete("clients/ci").raise_for_status()
    entries = admin.get("audit-log", params={"subject": "ci", "allowed": True}).json()
    assert [entry["action"] for entry in entries] == [
        "client.delete",
        "client.create",
        "client.delete",
        "client.rotate",
        "client.create",
    ]


def test_a_person_signs_in_in_a_browser(server: RunningServer, http: httpx.Client, admin: httpx.Client) -> None:
    once = new_account(admin, "ada@example.com")
    verifier, challenge = pkce()
    path = authorize_path(challenge)
    page = sign_in(http, "ada@example.com", "not the password", path)
    assert (page.status_code, "Name or password is wrong." in page.text) == (401, True)
    assert sign_in(http, "nobody@example.com", once, path).text.count("Name or password is wrong.") == 1
    page = sign_in(http, "ada@example.com", once, path)
    assert "Choose a password" in page.text
    # Nothing goes on before that is done.
    assert "Choose a password" in http.get("/auth/device", follow_redirects=True).text
    weak = submit(http, page, "/auth/password", current=once, password="short", again="short")
    assert weak.status_code == 400
    page = choose_password(http, page, once, "a good long password")
    back = consent(http, page)
    assert back["state"] == "the-state"

    assert redeem(http, back["code"], pkce()[0]).status_code == 400
    token = redeem(http, back["code"], verifier).raise_for_status().json()
    keys = KeySet.import_key_set(http.get("/auth/jwks.json").json())
    claims = jwt.decode(token["id_token"], keys, algorithms=["ES256"]).claims
    assert (claims["sub"], claims["email"], claims["aud"]) == ("ada@example.com", "ada@example.com", OLD_CLIENT)
    assert may(server, token["id_token"]) == 200

    # Each refresh token is good once; a second use ends the family.
    renewed = refresh(http, token["refresh_token"]).raise_for_status().json()
    again = refresh(http, renewed["refresh_token"]).raise_for_status().json()
    assert may(server, again["id_token"]) == 200
    assert refresh(http, token["refresh_token"]).json()["error"] == "invalid_grant"
    assert refresh(http, again["refresh_token"]).json()["error"] == "invalid_grant"
    eventually(lambda: may(server, again["id_token"]) == 401)

    # So does a second use of a code, and signing out.
    for end in ("code", "revoke", "disable"):
        verifier, challenge = pkce()
        page = http.get(authorize_path(challenge, client_id="tcloud"))
        code = consent(http, page)["code"]
        token = redeem(http, code, verifier, client_id="tcloud").raise_for_status().json()
        assert may(server, token["access_token"]) == 200
        match end:
            case "code":
                assert redeem(http, code, verifier, client_id="tcloud").json()["error"] == "invalid_grant"
            case "revoke":
                http.post(
                    "/auth/revoke", data={"token": token["refresh_token"], "client_id": "tcloud"}
                ).raise_for_status()
            case "disable":
                admin.post("accounts/ada@example.com/disable").raise_for_status()
        eventually(partial(is_refused, server, token["access_token"]))
    assert "Sign in" in http.get("/auth/account", follow_redirects=True).text
    assert "wrong" in sign_in(http, "ada@example.com", "a good long password", path).text


def test_what_the_authorization_endpoint_refuses(http: httpx.Client, admin: httpx.Client) -> None:
    for name in ("settings", "tempomesh", "tcloud"):
        refused = admin.post("accounts", json={"identity_id": name})
        assert refused.is_client_error
        assert "cannot be a name" in refused.json()["message"]
    _, challenge = pkce()
    for changed in (
        {"redirect_uri": "http://127.0.0.1.evil.example:29525/auth/handler"},
        {"redirect_uri": "http://evil.example/"},
        {"redirect_uri": "http://127.0.0.1:80@evil.example/"},
        {"redirect_uri": "https://127.0.0.1:29525/"},
        {"client_id": "ci"},
        {"client_id": ""},
    ):
        answer = http.get(authorize_path(challenge, **changed))
        assert (answer.status_code, answer.has_redirect_location) == (400, False), changed
    for changed in ({"code_challenge": ""}, {"code_challenge_method": "plain"}, {"scope": "all"}):
        answer = http.get(authorize_path(challenge, **changed))
        assert answer.headers["location"].startswith(f"{REDIRECT}?error=invalid_"), changed

    http.cookies.clear()
    page = http.get("/auth/login")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    cookies = page.headers["set-cookie"]
    assert "HttpOnly" in cookies
    assert "SameSite=lax" in cookies
    once = new_account(admin, "eve")
    assert http.post("/auth/login", data={"name": "eve", "password": once}).status_code == 403
    assert (
        http.post(
            "/auth/login",
            data={"name": "eve", "password": once, "form_token": http.cookies["tempomesh-form"]},
            headers={"Sec-Fetch-Site": "cross-site"},
        ).status_code
        == 403
    )
    answer = submit(http, page, "/auth/login", name="eve", password=once, return_to="//evil.example/auth")
    assert answer.headers["location"] == "/auth/account"
    page = choose_password(http, http.get("/auth/password?return_to=/auth/account"), once, "a good long password")
    assert consent(http, http.get(authorize_path(pkce()[1])), "no")["error"] == "access_denied"
    page = http.get("/auth/account")
    assert "eve" in page.text
    submit(http, page, "/auth/logout").raise_for_status()
    assert "Sign in" in http.get("/auth/account", follow_redirects=True).text
    too_large = http.post("/auth/token", data={"grant_type": "x" * 100_000})
    assert too_large.status_code == 413


def test_a_device_is_let_in_from_a_browser(server: RunningServer, http: httpx.Client, admin: httpx.Client) -> None:
    once = new_account(admin, "dora", Role.VIEWER)
    choose_password(http, sign_in(http, "dora", once, "/auth/device"), once, "a good long password")
    for answer, error in (("yes", None), ("no", "access_denied")):
        codes = http.post("/auth/device", data={"client_id": OLD_CLIENT, "scope": "tbk:scope:projects"}).json()
        poll = {"grant_type": DEVICE_GRANT, "device_code": codes["device_code"], "client_id": OLD_CLIENT}
        waiting = fetch(http, **poll)
        assert (waiting.status_code, waiting.json()["error"]) == (400, "authorization_pending")
        assert fetch(http, **poll).json()["error"] == "slow_down"
        assert "No device waits" in http.get("/auth/device", params={"user_code": "WRNG-CODE"}).text
        page = http.get(codes["verification_uri_complete"])
        assert codes["user_code"] in page.text
        submit(http, page, "/auth/device/answer", user_code=codes["user_code"], answer=answer).raise_for_status()
        token = fetch(http, **poll)
        if error:
            assert token.json()["error"] == error
        else:
            assert may(server, token.raise_for_status().json()["id_token"]) == 200
            assert fetch(http, **poll).status_code == 400


def test_a_person_signs_in_with_an_account_of_a_provider(
    server: RunningServer, http: httpx.Client, admin: httpx.Client, provider: str
) -> None:
    def as_account(subject: str, **claims: Any) -> httpx.Response:
        httpx.put(f"{provider}/users/{quote(subject)}", json=claims, trust_env=False).raise_for_status()
        http.cookies.clear()
        _, challenge = pkce()
        page = http.get(authorize_path(challenge), follow_redirects=True)
        link = re.search(r'href="(/auth/provider[^"]+)"', page.text)
        assert link
        there = http.get(link[1].replace("&amp;", "&")).headers["location"]
        asked = parse_qs(urlsplit(there).query)
        assert {"state", "nonce", "code_challenge"} <= asked.keys()
        back = httpx.post(there, data={"sub": subject}, trust_env=False).headers["location"]
        assert http.get(back.replace("state=", "state=x")).status_code == 502
        return http.get(back, follow_redirects=True)

    page = as_account("1", email="grace@example.com", name="Grace", email_verified=True)
    verifier, challenge = pkce()
    page = http.get(authorize_path(challenge))
    assert "Grace (grace@example.com)" in page.text
    token = redeem(http, consent(http, page)["code"], verifier).raise_for_status().json()
    # They are known, and may do nothing yet.
    assert may(server, token["id_token"]) == 403
    assert [account["created_by"] for account in admin.get("accounts").json() if account["display_name"]] == [provider]

    assert "may not sign in here" in as_account("2", email="grace@elsewhere.com").text
    assert "somebody else here" in as_account("3", email="grace@example.com").text
    assert "does not say who you are" in as_account("4", email="new@example.com", email_verified=False).text
    assert "Grace" in as_account("1", email="renamed@example.com", email_verified=True).text
    admin.post("accounts/grace@example.com/disable").raise_for_status()
    assert "may not sign in here" in as_account("1", email="grace@example.com").text


def test_whoever_guesses_has_to_wait(http: httpx.Client, admin: httpx.Client) -> None:
    once = new_account(admin, "mallory")
    page = http.get("/auth/login")
    answers = [submit(http, page, "/auth/login", name="mallory", password=f"guess {n}").status_code for n in range(6)]
    assert answers == [401] * 5 + [429]
    # Even the right one is not looked at now; others sign in meanwhile.
    assert submit(http, page, "/auth/login", name="mallory", password=once).status_code == 429
    once = new_account(admin, "bob")
    assert submit(http, page, "/auth/login", name="bob", password=once).status_code == 303


def test_tcloud_signs_in_and_out(
    server: RunningServer,
    admin: httpx.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    once = new_account(admin, "tess@example.com", Role.VIEWER)

    def tcloud(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        said = capsys.readouterr()
        # The server is in this process, and logs.
        return code, "\n".join(line for line in said.out.splitlines() if "[info" not in line), said.err

    def browse(address: str) -> bool:
        """A person in front of the browser that opens, and on the way back to the terminal."""

        def person() -> None:
            with httpx.Client(base_url=server.url.split("/sqlmesh")[0], trust_env=False, timeout=60) as http:
                path = address.removeprefix(str(http.base_url).rstrip("/"))
                page = sign_in(http, "tess@example.com", once, path)
                page = choose_password(http, page, once, "a good long password")
                back = submit(http, page, f"/auth?{page.url.query.decode()}", answer="yes").headers["location"]
                assert "Signed in" in httpx.get(back, trust_env=False).text

        Thread(target=person, daemon=True).start()
        return True

    monkeypatch.setattr(webbrowser, "open", browse)
    for name in ("TCLOUD_TOKEN", "TCLOUD_CLIENT_ID", "TCLOUD_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TCLOUD_URL", server.url)
    monkeypatch.setenv("TCLOUD_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    assert tcloud("auth", "status")[0] == 3
    code, _, error = tcloud("environments", "list")
    assert (code, "sign in with `tcloud auth login`" in error) == (3, True)
    code, out, error = tcloud("auth", "login")
    assert (code, "Signed in at http://127.0.0.1:" in out) == (0, True), error
    code, out, _ = tcloud("auth", "status", "-o", "json")
    told = json.loads(out)
    assert (told["identity"], told["scope"]) == ("tess@example.com", ["tbk:scope:project:local:main:viewer"])
    assert tcloud("environments", "list")[0] == 0
    code, _, error = tcloud("clients", "list")
    assert (code, "takes `manage`" in error) == (3, True), error
    assert tcloud("auth", "refresh")[0] == 0
    kept = (tmp_path / "auth.yaml").read_text()
    assert tcloud("auth", "logout")[0] == 0
    assert tcloud("environments", "list")[0] == 3
    # It was the server that took the tokens back.
    (tmp_path / "auth.yaml").write_text(kept)
    assert tcloud("auth", "refresh")[0] == 3

    # A client's secret is traded where it is needed; an administrator makes one.
    monkeypatch.setenv("TCLOUD_CLIENT_ID", "admin")
    monkeypatch.setenv("TCLOUD_CLIENT_SECRET", "admin-token")
    code, out, _ = tcloud("clients", "create", "nightly", "--role", "viewer", "-o", "json")
    made = json.loads(out)
    assert code == 0
    assert tcloud("clients", "create", "nightly")[0] == 1
    assert tcloud("accounts", "disable", "tess@example.com")[0] == 0
    assert "tess@example.com" in tcloud("accounts", "list")[1]
    assert "admin-token" not in (tmp_path / "auth.yaml").read_text()
    monkeypatch.setenv("TCLOUD_CLIENT_ID", made["identity_id"])
    monkeypatch.setenv("TCLOUD_CLIENT_SECRET", made["client_secret"])
    assert tcloud("environments", "list")[0] == 0
    assert json.loads(tcloud("auth", "status", "-o", "json")[1])["identity"] == "nightly"
    monkeypatch.setenv("TCLOUD_CLIENT_SECRET", "wrong")
    code, _, error = tcloud("environments", "list")
    assert (code, error.count("\n"), "check TCLOUD_CLIENT_ID" in error) == (3, 1, True)
    monkeypatch.setenv("TCLOUD_TOKEN_URL", server.url)
    code, _, error = tcloud("environments", "list")
    assert (code, error.count("\n"), "No token endpoint answers" in error) == (2, 1, True)


def test_signing_keys_are_replaced_and_sealed_again(server: RunningServer, http: httpx.Client) -> None:
    old_keys = dict(server.settings.secret_keys)
    new_key = SecretStr(base64.b64encode(bytes([7]) * 32).decode())

    def keys(secret_keys: dict[str, SecretStr], rotation: timedelta = timedelta(days=30)) -> SigningKeys:
        made = SigningKeys(server.database, KeyRing(secret_keys), rotation, timedelta(minutes=10))
        made.refresh()
        return made

    def key_id(signing: SigningKeys) -> str:
        return str(json.loads(base64.urlsafe_b64decode(signing.sign({}).split(".")[0] + "=="))["kid"])

    before = keys(old_keys)
    # A new key is announced before it signs.
    assert key_id(keys(old_keys, timedelta(0))) == key_id(before)
    published = before.published()["keys"]
    assert len(keys(old_keys).published()["keys"]) == len(published) + 1

    both = {"new": new_key, **old_keys}
    assert key_id(keys(both)) == key_id(before)
    # What another server makes, whose keys we cannot read, is good here.
    others = keys({"other": new_key})
    assert key_id(others) != key_id(before)
    issuer = Issuer(server.settings.root_url, others, timedelta(minutes=10), timedelta(days=1))
    with server.database.engine.begin() as connection:
        generation = connection.execute(
            text("SELECT token_generation FROM tempomesh.identities WHERE identity_id = 'viewer'")
        ).scalar_one()
        token = issuer.to_service(connection, "viewer", generation, "tbk:scope:projects")["id_token"]
        sealed = connection.execute(text("SELECT sealed_private_key FROM tempomesh.signing_keys")).scalars().all()
    assert may(server, token) == 200
    assert {entry.split(":")[1] for entry in sealed} == {"new", "other"}
    claims = others.verify(token)
    assert claims is not None
    forged = jwt.encode({"alg": "ES256", "kid": key_id(before)}, claims, ECKey.generate_key("P-256"))
    assert may(server, forged) == 401


def test_an_administrator_of_the_server_is_made_once(server: RunningServer) -> None:
    settings = server.settings
    keys = json.dumps({name: key.get_secret_value() for name, key in settings.secret_keys.items()})
    variables = {
        "TEMPOMESH_SERVER_DATABASE_URL": settings.database_url.get_secret_value(),
        "TEMPOMESH_SERVER_PROJECTS": json.dumps(settings.projects),
        "TEMPOMESH_SERVER_CODEC_KEYS": keys,
        "TEMPOMESH_SERVER_SECRET_KEYS": keys,
    }

    def init(*options: str) -> Result:
        return CliRunner().invoke(command.server, ["init", *options], env=variables)

    refused = init()
    assert (refused.exit_code, "has an administrator already" in refused.output) == (1, True)
    made = [json.loads(init("--again", "--service", "--name", "root", "-o", "json").stdout)["secret"] for _ in range(2)]
    assert made[0] != made[1]
    assert (may(server, made[1], "clients"), may(server, made[1], "accounts")) == (200, 200)
    assert may(server, made[0]) == 401
    person = init("--again", "--name", "chief")
    assert (person.exit_code, "first password" in person.stdout) == (0, True)

    # No secret, password or key is in the database as it is.
    with server.database.engine.connect() as connection:
        tables = connection.execute(
            text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'tempomesh'")
        ).scalars()
        dump = " ".join(
            str(row) for table in tables for row in connection.execute(text(f'SELECT * FROM tempomesh."{table}"'))
        )
    assert "root" in dump
    for secret in (made[1], "a good long password", person.stdout.split("\n\n")[1].strip(), '"d"'):
        assert secret not in dump
