"""Signing a person in: in a browser on this machine, or on another one with a code."""

import sys
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import click
import httpx

from tcloud.api.proxies import goes_through_proxies
from tcloud.credentials import PUBLIC_CLIENT, SignedIn, tokens_of
from tcloud.errors import NotAllowedError, NotReachableError
from tcloud.settings import ALL_PROJECTS
from tcloud.token_store import Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["is_interactive", "sign_in"]

_PORT = 29525
_REDIRECT = f"http://127.0.0.1:{_PORT}/auth/handler"
_PATIENCE_SECONDS = 300.0
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font: 1rem/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh">
<main><h1>{title}</h1><p>{text}</p></main>"""


def is_interactive() -> bool:
    """Whether somebody is there who could sign in."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def sign_in(credentials: SignedIn, *, with_device: bool = False) -> Tokens:
    """Signs a person in at a server, and keeps the tokens.

    Args:
        credentials: Which server.
        with_device: Whether a browser on another machine is meant.

    Raises:
        NotAllowedError: If the person does not sign in, or may not.
        NotReachableError: If the server does not answer.
    """
    url = credentials.auth_url
    try:
        with httpx.Client(timeout=30, trust_env=goes_through_proxies(url)) as http:
            tokens = _by_device(http, credentials, url) if with_device else _by_browser(http, credentials, url)
    except httpx.HTTPStatusError as error:
        raise NotAllowedError(str(error)) from error
    except httpx.TransportError as error:
        raise NotReachableError(f"Cannot sign in at {url}: {error or type(error).__name__}.") from error
    with credentials.store.locked():
        credentials.store.write(tokens)
    return tokens


def _by_browser(http: httpx.Client, credentials: SignedIn, auth_url: str) -> Tokens:
    from authlib.common.security import generate_token
    from authlib.oauth2 import OAuth2Error
    from authlib.oauth2.rfc6749.parameters import parse_authorization_code_response, prepare_grant_uri
    from authlib.oauth2.rfc7636 import create_s256_code_challenge

    verifier, state = generate_token(64), generate_token(32)
    address = prepare_grant_uri(
        auth_url,
        client_id=PUBLIC_CLIENT,
        response_type="code",
        redirect_uri=_REDIRECT,
        scope=ALL_PROJECTS,
        state=state,
        code_challenge=create_s256_code_challenge(verifier),
        code_challenge_method="S256",
    )
    try:
        handler = _Handler()
    except OSError as error:
        raise NotAllowedError(
            f"Port {_PORT} of this machine, to which the browser comes back, is taken: sign in with "
            "`tcloud auth login --device`."
        ) from error
    with handler:
        click.echo(f"Sign in in the browser that opens; if none does, go to\n\n    {address}\n", err=True)
        webbrowser.open(address)
        path = handler.wait_for_answer()
    try:
        code = parse_authorization_code_response(f"http://127.0.0.1:{_PORT}{path}", state=state)["code"]
    except OAuth2Error as error:
        raise NotAllowedError(f"The sign-in was refused: {error.description or error.error}.") from error
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": _REDIRECT, "code_verifier": verifier}
    return _fetch(http, credentials, form)


def _by_device(http: httpx.Client, credentials: SignedIn, auth_url: str) -> Tokens:
    answer = http.post(f"{auth_url}/device", data={"client_id": PUBLIC_CLIENT, "scope": ALL_PROJECTS})
    codes = _json(answer)
    if not answer.is_success or "device_code" not in codes:
        reason = codes.get("error_description") or f"whoever answers said {answer.status_code}"
        raise NotAllowedError(f"{auth_url}/device gives no code: {reason}. Check TCLOUD_URL and TCLOUD_AUTH_URL.")
    click.echo(
        f"On any machine with a browser, go to\n\n    {codes['verification_uri_complete']}\n\n"
        f"and let the device with the code {codes['user_code']} in.",
        err=True,
    )
    seconds, until = float(codes.get("interval", 5)), time.monotonic() + float(codes["expires_in"])
    form = {"grant_type": _DEVICE_GRANT, "device_code": str(codes["device_code"])}
    while time.monotonic() < until:
        time.sleep(seconds)
        answer = http.post(credentials.token_url, data={**form, "client_id": PUBLIC_CLIENT})
        match _json(answer).get("error"):
            case "authorization_pending":
                continue
            case "slow_down":
                seconds += 5
            case "access_denied":
                raise NotAllowedError("The sign-in was refused in the browser.")
            case "expired_token":
                break
            case _:
                return tokens_of(answer, PUBLIC_CLIENT, f"{credentials.token_url} does not let this device in.")
    raise NotAllowedError("Nobody let this device in in time: begin again.")


def _fetch(http: httpx.Client, credentials: SignedIn, form: "Mapping[str, str]") -> Tokens:
    answer = http.post(credentials.token_url, data={**form, "client_id": PUBLIC_CLIENT})
    return tokens_of(answer, PUBLIC_CLIENT, f"{credentials.token_url} does not take the code of this sign-in.")


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class _Handler(HTTPServer):
    """Waits on the loopback for the browser to come back."""

    def __init__(self) -> None:
        self.path: str | None = None
        super().__init__(("127.0.0.1", _PORT), _Request)
        self.timeout = 1.0

    def wait_for_answer(self) -> str:
        until = time.monotonic() + _PATIENCE_SECONDS
        while self.path is None:
            if time.monotonic() > until:
                raise NotAllowedError("Nobody signed in in time: begin again.")
            self.handle_request()
        return self.path


class _Request(BaseHTTPRequestHandler):
    server: _Handler
    timeout = 5

    def do_GET(self) -> None:
        is_answer = self.path.split("?")[0] == "/auth/handler"
        title, text = "Signed in", "You can close this page and go back to the terminal."
        if not is_answer:
            title, text = "Not here", "This is tcloud, which waits for a sign-in."
        elif "error=" in self.path:
            title, text = "Not signed in", "The terminal says more."
        self.send_response(200 if is_answer else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(_PAGE.format(title=title, text=text).encode())
        if is_answer:
            self.server.path = self.path

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's signature)
        """The path has the code in it, and nobody asked."""
