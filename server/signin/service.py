"""All that signing in needs, for as long as the server serves."""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.exceptions import HTTPException

from server.database import Database
from server.sealing import KeyRing
from server.settings import ServerSettings
from server.signin.attempts import Attempts
from server.signin.issuing import Issuer
from server.signin.signing import SigningKeys

__all__ = ["SignIn", "address_of", "parameters_of", "sign_in_of"]

_MAX_FORM_BYTES = 64 * 1024
_MAX_FIELDS = 50


@dataclass(frozen=True)
class SignIn:
    """Shared by all requests.

    Args:
        database: Where everything is.
        settings: The server's.
        ring: Seals what browsers carry.
        issuer: Issues tokens.
        attempts: Counts failures.
    """

    database: Database
    settings: ServerSettings
    ring: KeyRing
    issuer: Issuer
    attempts: Attempts

    @classmethod
    def of(cls, settings: ServerSettings, database: Database) -> "SignIn":
        """What the settings ask for."""
        ring = KeyRing(settings.secret_keys)
        keys = SigningKeys(database, ring, settings.signing_key_rotation, settings.token_lifetime)
        issuer = Issuer(settings.root_url, keys, settings.token_lifetime, settings.sign_in_lifetime)
        attempts = Attempts(settings.sign_in_failures_per_person, settings.sign_in_failures_per_address)
        return cls(database, settings, ring, issuer, attempts)

    @property
    def is_secure(self) -> bool:
        """Whether browsers speak TLS with the server."""
        return self.settings.root_url.startswith("https:")

    @property
    def session_lifetime(self) -> timedelta:
        """How long a browser stays signed in."""
        return timedelta(hours=8)


def sign_in_of(request: Request) -> SignIn:
    """The application's."""
    found: SignIn = request.app.state.sign_in
    return found


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "unknown"


async def parameters_of(request: Request) -> list[tuple[str, str]]:
    """The fields of a form.

    Raises:
        HTTPException: 413 if it is too large, 400 if it is none.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            raise HTTPException(413, "the form is too large")
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise HTTPException(400, "the body is not a form") from None
