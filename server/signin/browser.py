"""What a browser carries: the session of who signed in there, and what proves that a form is one of ours."""

import hmac
import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from server.identities import hash_of
from server.schema import identities
from server.signin.issuing import Person, find_person
from server.signin.service import SignIn
from server.signin.tables import browser_sessions

__all__ = [
    "begin_session",
    "check_form",
    "cookie",
    "end_session",
    "form_token",
    "person_of",
    "set_cookie",
]

SESSION = "tempomesh-session"
FORM = "tempomesh-form"
_TOKEN_BYTES = 32
_OWN_SITE = ("same-origin", "none")


def person_of(sign_in: SignIn, connection: Connection, request: Request) -> Person | None:
    """Who has signed in in this browser."""
    session = cookie(sign_in, request, SESSION)
    if session is None:
        return None
    row = connection.execute(
        select(browser_sessions.c.identity_id)
        .join(identities, identities.c.identity_id == browser_sessions.c.identity_id)
        .where(
            browser_sessions.c.session_hash == hash_of(session),
            browser_sessions.c.expires_at > datetime.now(UTC),
            browser_sessions.c.token_generation == identities.c.token_generation,
        )
    ).first()
    return find_person(connection, row.identity_id) if row is not None else None


def begin_session(sign_in: SignIn, connection: Connection, person: Person, response: Response) -> None:
    """Lets the browser remember who has signed in."""
    session = secrets.token_urlsafe(_TOKEN_BYTES)
    connection.execute(
        insert(browser_sessions).values(
            session_hash=hash_of(session),
            identity_id=person.identity_id,
            token_generation=person.token_generation,
            expires_at=datetime.now(UTC) + sign_in.session_lifetime,
        )
    )
    set_cookie(sign_in, response, SESSION, session, int(sign_in.session_lifetime.total_seconds()))


def end_session(sign_in: SignIn, connection: Connection, request: Request, response: Response) -> None:
    """Lets the browser and the server forget who has signed in."""
    session = cookie(sign_in, request, SESSION)
    if session is not None:
        connection.execute(delete(browser_sessions).where(browser_sessions.c.session_hash == hash_of(session)))
    set_cookie(sign_in, response, SESSION, "", 0)


def form_token(sign_in: SignIn, request: Request) -> str:
    """What a page's form says and the browser's cookie says, too; another site can read neither."""
    return cookie(sign_in, request, FORM) or secrets.token_urlsafe(_TOKEN_BYTES)


def check_form(sign_in: SignIn, request: Request, fields: dict[str, str]) -> None:
    """Lets a form through that a page of this server has sent.

    Raises:
        HTTPException: 403 for any other.
    """
    expected = cookie(sign_in, request, FORM) or ""
    is_own = hmac.compare_digest(expected.encode(), fields.get("form_token", "").encode())
    if not expected or not is_own or request.headers.get("sec-fetch-site", "same-origin") not in _OWN_SITE:
        raise HTTPException(403, "this form was not sent from a page of this server, or is too old: go back, reload it")


def cookie(sign_in: SignIn, request: Request, name: str) -> str | None:
    """The value of one of this server's cookies."""
    return request.cookies.get(_spelled(sign_in, name))


def set_cookie(sign_in: SignIn, response: Response, name: str, value: str, seconds: int | None = None) -> None:
    """Sets one of this server's cookies: no script sees it, and no other site's form sends it."""
    options: dict[str, Any] = {"httponly": True, "samesite": "lax", "secure": sign_in.is_secure, "path": "/"}
    response.set_cookie(_spelled(sign_in, name), value, max_age=seconds, **options)


def _spelled(sign_in: SignIn, name: str) -> str:
    # With the prefix, browsers take it from this very host and over TLS only.
    return f"__Host-{name}" if sign_in.is_secure else name
