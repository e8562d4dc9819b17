"""What a request is signed with: the one place that signing in changes.

A token that was given is sent as it is. A client's id and secret are traded for a token at the server's token
endpoint, a person's sign-in for the next one; both are done again shortly before a token ends, or when it is refused.
"""

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import httpx
from pydantic import SecretStr, ValidationError

from tcloud.errors import InvalidError
from tcloud.settings import Settings
from tcloud.token_store import Tokens, TokenStore

__all__ = [
    "PUBLIC_CLIENT",
    "ClientCredentials",
    "FixedToken",
    "SignInError",
    "SignedIn",
    "as_credentials",
    "credentials_of",
    "server_root",
    "service_credentials",
    "tokens_of",
]

PUBLIC_CLIENT = "tcloud"
"""The name of this program at the server: people sign in through it."""

_TIMEOUT_SECONDS = 30.0


class SignInError(httpx.HTTPStatusError):
    """The token endpoint gave no token; the message is one line for a person."""

    @property
    def status(self) -> int:
        """What a server that takes tokens would have answered to the request."""
        status = self.response.status_code
        # OAuth says so of secrets and codes that are not good.
        return httpx.codes.UNAUTHORIZED if status == httpx.codes.BAD_REQUEST else status

    @property
    def is_refusal(self) -> bool:
        """Whether it would say the same if it were asked again."""
        return self.response.is_client_error and self.response.status_code != httpx.codes.TOO_MANY_REQUESTS


class FixedToken(httpx.Auth):
    """A token that somebody was given.

    Args:
        token: The token.
    """

    def __init__(self, token: str):
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        _sign(request, self._token)
        yield request


class ClientCredentials(httpx.Auth):
    """A service's id and secret, traded for tokens.

    Args:
        token_url: Where.
        client_id: The service's id.
        client_secret: Its secret.
        scope: What is asked for.
        store: Where tokens are kept for the next process; None keeps them in memory only.
    """

    def __init__(self, token_url: str, client_id: str, client_secret: str, scope: str, store: TokenStore | None = None):
        self._token_url = token_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._scope = scope
        self._store = store
        self._tokens: Tokens | None = None
        self._renewing = threading.Lock()
        self._renewing_async: asyncio.Lock | None = None

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = yield from self._token(refused=None)
        _sign(request, token)
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            response.read()
            _sign(request, (yield from self._token(refused=token)))
            yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if self._renewing_async is None:
            self._renewing_async = asyncio.Lock()
        refused: str | None = None
        for _ in range(2):
            async with self._renewing_async:
                if self._usable(refused) is None:
                    answer = yield self._token_request()
                    await answer.aread()
                    self._tokens = self._accept(answer)
                token = self._usable(refused) or ""
            _sign(request, token)
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED or refused is not None:
                return
            await response.aread()
            refused = token

    def _token(self, refused: str | None) -> Generator[httpx.Request, httpx.Response, str]:
        with self._renewing:
            if self._tokens is None and self._store is not None:
                self._tokens = self._store.read()
            if (usable := self._usable(refused)) is not None:
                return usable
            answer = yield self._token_request()
            answer.read()
            self._tokens = self._accept(answer)
            if self._store is not None:
                # The next process gets its own where nothing can be written, as in some containers.
                with suppress(OSError), self._store.locked():
                    self._store.write(self._tokens)
            return self._tokens.id_token

    def _usable(self, refused: str | None) -> str | None:
        if self._tokens is None or not self._tokens.is_fresh() or self._tokens.id_token == refused:
            return None
        return self._tokens.id_token

    def _token_request(self) -> httpx.Request:
        form = {"grant_type": "client_credentials", "scope": self._scope}
        request = httpx.Request("POST", self._token_url, data=form)
        basic = httpx.BasicAuth(self._client_id, self._client_secret)
        return next(basic.auth_flow(_with_timeout(request)))

    def _accept(self, answer: httpx.Response) -> Tokens:
        return tokens_of(
            answer,
            self._client_id,
            f"{self._token_url} does not take the secret of client '{self._client_id}': "
            "check TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET.",
        )


class SignedIn(httpx.Auth):
    """A person who signs in, or has.

    Args:
        root: The server's root URL.
        auth_url: Where people sign in there.
        token_url: Its token endpoint.
        store: Where tokens are kept.
    """

    def __init__(self, root: str, auth_url: str, token_url: str, store: TokenStore):
        self.root = root
        self.auth_url = auth_url
        self.token_url = token_url
        self.store = store

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = yield from self._token()
        if token is not None:
            _sign(request, token)
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            from tcloud.signing_in import is_interactive, sign_in

            if not is_interactive():
                return
            response.read()
            _sign(request, sign_in(self).id_token)
            yield request

    def refresh(self, http: httpx.Client) -> Tokens | None:
        """Gets new tokens with the ones that are kept; None if there are none, or they are not good any more."""
        with self.store.locked():
            tokens = self.store.read()
            if tokens is None or tokens.refresh_token is None:
                return None
            return self._accept(http.send(self._refresh_request(tokens)), tokens)

    def _token(self) -> Generator[httpx.Request, httpx.Response, str | None]:
        tokens = self.store.read()
        if tokens is None or tokens.is_fresh():
            return tokens.id_token if tokens else None
        with self.store.locked():
            # Another process may have been faster.
            tokens = self.store.read()
            if tokens is None or tokens.is_fresh():
                return tokens.id_token if tokens else None
            if tokens.refresh_token is None:
                return None
            answer = yield self._refresh_request(tokens)
            answer.read()
            renewed = self._accept(answer, tokens)
            return renewed.id_token if renewed else None

    def _refresh_request(self, tokens: Tokens) -> httpx.Request:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": tokens.refresh_token,
            "client_id": tokens.client_id,
            "scope": tokens.scope,
        }
        return _with_timeout(httpx.Request("POST", self.token_url, data=form))

    def _accept(self, answer: httpx.Response, before: Tokens) -> Tokens | None:
        if answer.status_code == httpx.codes.BAD_REQUEST:
            # They have expired, or somebody has revoked them.
            self.store.write(None)
            return None
        tokens = tokens_of(answer, before.client_id, f"{self.token_url} does not renew this sign-in.")
        self.store.write(tokens)
        return tokens


def credentials_of(settings: Settings) -> httpx.Auth:
    """What requests to a project are signed with: a token that was given, else a client's secret, else who signed in.

    Raises:
        InvalidError: If there is a secret without the id of its client.
    """
    if settings.token is not None:
        return FixedToken(settings.token.get_secret_value())
    if settings.client_secret is not None:
        return _of_client(
            settings.url,
            settings.client_id,
            settings.client_secret,
            settings.token_url,
            settings.scope,
            settings.home,
        )
    return _of_person(settings.url, settings.auth_url, settings.token_url, settings.home)


def service_credentials(
    url: str,
    token: SecretStr | None,
    client_id: str | None,
    client_secret: SecretStr | None,
    token_url: str | None,
    scope: str,
) -> httpx.Auth:
    """What a worker or executor signs its requests with; it keeps tokens in memory only.

    Raises:
        ValueError: If there is neither a token nor a client's id and secret.
    """
    # A variable that is set to nothing says nothing.
    if token:
        return FixedToken(token.get_secret_value())
    if not client_secret or not client_id:
        raise ValueError("No token: set TCLOUD_TOKEN, or TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET.")
    return ClientCredentials(token_url or _token_url(url), client_id, client_secret.get_secret_value(), scope)


def as_credentials(given: httpx.Auth | str | None) -> httpx.Auth | None:
    """Credentials as they are, a token as such."""
    return FixedToken(given) if isinstance(given, str) else given


def server_root(url: str) -> str:
    """The root of a project's server: `<root>/sqlmesh/<org>/<project>`."""
    return url.rstrip("/").rsplit("/", 3)[0]


def tokens_of(answer: httpx.Response, client_id: str, refusal: str) -> Tokens:
    """The tokens in an answer of a token endpoint, which has been read.

    Args:
        answer: The answer.
        client_id: Who asked.
        refusal: What to say if it refuses.

    Raises:
        SignInError: If it has none.
    """
    if answer.is_success:
        try:
            return Tokens.of_answer(answer.json(), client_id)
        except (ValueError, AttributeError, ValidationError):
            pass
    raise SignInError(_reason(answer, refusal), request=answer.request, response=answer)


def _reason(answer: httpx.Response, refusal: str) -> str:
    url, status = answer.request.url, answer.status_code
    if httpx.codes.is_server_error(status):
        return f"{url} answered {status} {answer.reason_phrase}. Try again; the server's log says more."
    try:
        body = answer.json()
        error = str(body["error"]) if isinstance(body, dict) else None
    except (ValueError, KeyError):
        error = None
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return f"{url} has seen too many attempts: wait a few minutes."
    if error is None:
        return f"No token endpoint answers at {url}: whoever does said {status}. Check TCLOUD_URL and TCLOUD_TOKEN_URL."
    if error == "invalid_scope":
        return f"{url} knows no such scope: check TCLOUD_SCOPE."
    return f"{refusal} ({error})" if error not in ("invalid_client", "invalid_grant") else refusal


@lru_cache
def _of_client(
    url: str, client_id: str | None, secret: SecretStr, token_url: str | None, scope: str, home: Path
) -> httpx.Auth:
    if client_id is None:
        raise InvalidError("TCLOUD_CLIENT_SECRET is set and TCLOUD_CLIENT_ID is not: set both, or TCLOUD_TOKEN.")
    # Another secret is another sign-in, and so is another scope.
    sign_in = hashlib.sha256(f"{secret.get_secret_value()} {scope}".encode()).hexdigest()[:8]
    store = TokenStore(home, f"{client_id} ({sign_in}) at {server_root(url)}")
    return ClientCredentials(token_url or _token_url(url), client_id, secret.get_secret_value(), scope, store)


@lru_cache
def _of_person(url: str, auth_url: str | None, token_url: str | None, home: Path) -> SignedIn:
    root = server_root(url)
    return SignedIn(
        root, (auth_url or f"{root}/auth").rstrip("/"), token_url or _token_url(url), TokenStore(home, root)
    )


def _token_url(url: str) -> str:
    return f"{server_root(url)}/auth/token"


def _sign(request: httpx.Request, token: str) -> None:
    request.headers["Authorization"] = f"Bearer {token}"


def _with_timeout(request: httpx.Request) -> httpx.Request:
    request.extensions = {"timeout": httpx.Timeout(_TIMEOUT_SECONDS, connect=10).as_dict()}
    return request
