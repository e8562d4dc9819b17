"""The endpoints of OAuth 2 and OpenID Connect that programs call."""

from typing import Any

from authlib.oauth2.rfc6749.util import extract_basic_authorization
from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.responses import Response

from server.access import open_to_all
from server.signin.attempts import TooManyAttemptsError
from server.signin.authorization import Authorization, Parameters
from server.signin.clients import DEVICE_GRANT
from server.signin.scopes import ALL_PROJECTS
from server.signin.service import SignIn, address_of, parameters_of, sign_in_of

__all__ = ["router"]

router = APIRouter(include_in_schema=False, dependencies=[Depends(open_to_all)])
_WRONG_SECRET = ("invalid_client", "invalid_grant")


@router.get("/.well-known/openid-configuration")
@router.get("/.well-known/oauth-authorization-server")
async def metadata(request: Request) -> dict[str, Any]:
    """Where everything is (RFC 8414)."""
    url = sign_in_of(request).issuer.url
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/auth",
        "token_endpoint": f"{url}/auth/token",
        "device_authorization_endpoint": f"{url}/auth/device",
        "revocation_endpoint": f"{url}/auth/revoke",
        "jwks_uri": f"{url}/auth/jwks.json",
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token", DEVICE_GRANT],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "scopes_supported": ["openid", "profile", "email", "offline_access", ALL_PROJECTS],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "jti", "scope", "name", "email"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


@router.get("/auth/jwks.json")
async def jwks(request: Request) -> JSONResponse:
    """The keys that tokens are signed with."""
    keys = await run_in_threadpool(sign_in_of(request).issuer.keys.published)
    return JSONResponse(keys, headers={"Cache-Control": "public, max-age=60"})


@router.post("/auth/token")
async def token(request: Request) -> Response:
    """Gives a token for a secret, a code or a refresh token."""
    sent = Parameters("POST", request.url.path, request.headers, await parameters_of(request))
    return await run_in_threadpool(_answer, sign_in_of(request), address_of(request), sent, None)


@router.post("/auth/device")
async def device(request: Request) -> Response:
    """Gives a device its codes."""
    sent = Parameters("POST", request.url.path, request.headers, await parameters_of(request))
    sign_in = sign_in_of(request)
    return await run_in_threadpool(_answer, sign_in, address_of(request), sent, "device_authorization")


@router.post("/auth/revoke")
async def revoke(request: Request) -> Response:
    """Takes a token back."""
    sent = Parameters("POST", request.url.path, request.headers, await parameters_of(request))
    return await run_in_threadpool(_answer, sign_in_of(request), address_of(request), sent, "revocation")


def _answer(sign_in: SignIn, address: str, sent: Parameters, endpoint: str | None) -> Response:
    # A client by itself: another one at the same address goes on, however wrong this one's secret is.
    asks = f"{address} {_client_id(sent)}"
    try:
        sign_in.attempts.check(asks)
    except TooManyAttemptsError as error:
        body = {"error": "temporarily_unavailable", "error_description": str(error)}
        return JSONResponse(body, status_code=429, headers={"Retry-After": str(error.seconds)})
    sign_in.issuer.keys.refresh()
    with sign_in.database.engine.begin() as connection:
        server = Authorization(connection, sign_in.issuer)
        if endpoint is None:
            answer: Response = server.create_token_response(sent)
        else:
            answer = server.create_endpoint_response(endpoint, sent)
    # Of clients that there are not, nothing is counted: they could fill the memory with names. Whoever asks for codes
    # of devices fills a table.
    if server.asked_by is not None and (server.refused in _WRONG_SECRET or endpoint == "device_authorization"):
        sign_in.attempts.failed(asks)
    return answer


def _client_id(sent: Parameters) -> str:
    by_header, _ = extract_basic_authorization(sent.headers)
    return by_header or sent.form.get("client_id", "")
