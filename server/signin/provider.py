"""Signing in with an account of an identity provider (OpenID Connect)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import orjson
import structlog
from authlib.integrations.starlette_client import OAuth, OAuthError
from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from joserfc.errors import JoseError
from sqlalchemy import Connection, insert, select
from starlette.responses import RedirectResponse, Response

from server.access import open_to_all
from server.identities import IdentityKind
from server.schema import identities
from server.sealing import SealingError
from server.settings import ProviderSettings
from server.signin.browser import begin_session, cookie, set_cookie
from server.signin.issuing import Person, find_person
from server.signin.rendering import page
from server.signin.returning import OVERVIEW, safe_return
from server.signin.service import SignIn, address_of, sign_in_of
from server.signin.tables import external_accounts

__all__ = ["provider_client", "router"]

router = APIRouter(include_in_schema=False, dependencies=[Depends(open_to_all)])
_log = structlog.get_logger(__name__)
_COOKIE = "tempomesh-provider"
_LIFETIME = timedelta(minutes=10)
_TIMEOUT_SECONDS = 10.0
_TROUBLE = (OAuthError, JoseError, httpx2.HTTPError, KeyError, ValueError)


class _RefusedError(Exception):
    """Somebody has an account of the provider, and may not sign in with it here; the message is for them."""


def provider_client(settings: ProviderSettings) -> Any:
    """Authlib's client of the provider: it sends and checks state, nonce and PKCE, and verifies id tokens."""
    return OAuth().register(
        "provider",
        client_id=settings.client_id,
        client_secret=settings.client_secret.get_secret_value(),
        server_metadata_url=f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": settings.scopes, "code_challenge_method": "S256", "timeout": _TIMEOUT_SECONDS},
    )


@router.get("/auth/provider")
async def begin(request: Request, return_to: str = OVERVIEW) -> Response:
    """Sends a person to the provider."""
    sign_in, settings = sign_in_of(request), _settings_of(request)
    if settings is None:
        return _not_set_up(request)
    request.scope["session"] = {}
    try:
        await _check_issuer(request, settings)
        callback = f"{sign_in.issuer.url}/auth/provider/callback"
        response: Response = await request.app.state.provider.authorize_redirect(request, callback)
    except _TROUBLE as error:
        return _failed(request, error)
    carried = {"session": request.session, "return_to": safe_return(return_to), "until": _until()}
    sealed = sign_in.ring.seal(orjson.dumps(carried), bound_to=_COOKIE)
    set_cookie(sign_in, response, _COOKIE, sealed, int(_LIFETIME.total_seconds()))
    return response


@router.get("/auth/provider/callback")
async def come_back(request: Request) -> Response:
    """Takes back who was sent to the provider."""
    sign_in, settings = sign_in_of(request), _settings_of(request)
    if settings is None:
        return _not_set_up(request)
    try:
        carried = orjson.loads(sign_in.ring.unseal(cookie(sign_in, request, _COOKIE) or "", bound_to=_COOKIE))
    except SealingError:
        carried = {"until": 0}
    if carried["until"] < datetime.now(UTC).timestamp():
        text = "That took too long, or was begun in another browser: begin again."
        return page(sign_in, request, "message", status=400, title="Not signed in", text=text)
    request.scope["session"] = carried["session"]
    try:
        token = await request.app.state.provider.authorize_access_token(request)
        claims = dict(token["userinfo"])
    except _TROUBLE as error:
        return _failed(request, error)
    response = RedirectResponse(safe_return(carried["return_to"]), status_code=303)
    try:
        person = await run_in_threadpool(_signed_in, sign_in, settings, claims, response)
    except _RefusedError as error:
        _log.info("sign_in_refused", address=address_of(request), reason=str(error))
        return page(sign_in, request, "message", status=403, title="Not signed in", text=str(error))
    set_cookie(sign_in, response, _COOKIE, "", 0)
    _log.info("signed_in", identity=person.identity_id, address=address_of(request), issuer=settings.issuer)
    return response


async def _check_issuer(request: Request, settings: ProviderSettings) -> None:
    metadata = await request.app.state.provider.load_server_metadata()
    if str(metadata.get("issuer", "")).rstrip("/") != settings.issuer.rstrip("/"):
        raise ValueError(f"it calls itself {metadata.get('issuer')}")


def _signed_in(sign_in: SignIn, settings: ProviderSettings, claims: dict[str, Any], response: Response) -> Person:
    with sign_in.database.engine.begin() as connection:
        person = _person(connection, settings, claims)
        begin_session(sign_in, connection, person, response)
    return person


def _person(connection: Connection, settings: ProviderSettings, claims: dict[str, Any]) -> Person:
    account = {"issuer": settings.issuer, "subject": str(claims["sub"])}
    identity_id = str(claims.get(settings.claim) or "").strip()
    if not identity_id or (settings.claim == "email" and claims.get("email_verified") is False):
        raise _RefusedError(f"{settings.name} does not say who you are: your account there has no {settings.claim}.")
    domains = tuple(f"@{domain.lower().lstrip('@')}" for domain in settings.allowed_domains)
    if domains and not identity_id.lower().endswith(domains):
        raise _RefusedError(f"Accounts like '{identity_id}' may not sign in here: ask an administrator.")
    known = connection.execute(
        select(external_accounts.c.identity_id).where(
            *(external_accounts.c[name] == value for name, value in account.items())
        )
    ).scalar()
    if known is None:
        _make(connection, settings, identity_id, claims)
        connection.execute(insert(external_accounts).values(identity_id=identity_id, **account))
    person = find_person(connection, known or identity_id)
    if person is None:
        raise _RefusedError(f"'{known or identity_id}' may not sign in here: ask an administrator.")
    return person


def _make(connection: Connection, settings: ProviderSettings, identity_id: str, claims: dict[str, Any]) -> None:
    """Makes the person, unless an administrator has done so before; nobody else may be taken over."""
    kind = connection.execute(
        select(identities.c.kind).where(identities.c.identity_id == identity_id).with_for_update()
    ).scalar()
    taken = connection.execute(
        select(external_accounts.c.subject).where(
            external_accounts.c.identity_id == identity_id, external_accounts.c.issuer == settings.issuer
        )
    ).scalar()
    if taken is not None or kind not in (None, IdentityKind.PERSON.value):
        raise _RefusedError(f"'{identity_id}' is somebody else here: ask an administrator.")
    if kind is None:
        connection.execute(
            insert(identities).values(
                identity_id=identity_id,
                kind=IdentityKind.PERSON.value,
                display_name=claims.get("name"),
                created_by=settings.issuer,
            )
        )


def _settings_of(request: Request) -> ProviderSettings | None:
    return sign_in_of(request).settings.provider


def _not_set_up(request: Request) -> Response:
    text = "This server has no identity provider."
    return page(sign_in_of(request), request, "message", status=404, title="Not here", text=text)


def _failed(request: Request, error: Exception) -> Response:
    _log.warning("provider_failed", error=f"{type(error).__name__}: {error}"[:500])
    text = "The identity provider did not let you in, or could not be asked. The server's log says more."
    return page(sign_in_of(request), request, "message", status=502, title="Not signed in", text=text)


def _until() -> float:
    return (datetime.now(UTC) + _LIFETIME).timestamp()
