"""Who may ask for tokens: the `tcloud` of people, and services with a secret."""

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import ClientMixin
from sqlalchemy import Connection, select

from server.identities import IdentityKind, hash_of
from server.schema import identities
from server.signin.scopes import requested_scope

__all__ = ["PUBLIC_CLIENTS", "PublicClient", "ServiceClient", "find_client"]

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
LOOPBACK = "127.0.0.1"
PUBLIC_CLIENTS = ("tcloud", "f695a000-bc5b-43c2-bcb7-8e0179ddff0c")
"""Programs on people's machines, which cannot keep a secret. The second name is what clients of the hosted product say
that nobody has told another."""


class _Client(ClientMixin):  # type: ignore[misc]
    grant_types: tuple[str, ...] = ()
    auth_methods: tuple[str, ...] = ()

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str) -> str:
        return requested_scope(scope)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002 (Authlib's signature)
        return method in self.auth_methods

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.grant_types

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and "authorization_code" in self.grant_types


@dataclass(frozen=True)
class PublicClient(_Client):
    """A program on a person's machine."""

    client_id: str
    grant_types = ("authorization_code", DEVICE_GRANT, "refresh_token")
    auth_methods = ("none",)

    def get_client_id(self) -> str:
        return self.client_id

    def check_client_secret(self, client_secret: str) -> bool:  # noqa: ARG002 (Authlib's signature)
        return False

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Only the person's own machine, by its address: a name may be somebody else's; any port."""
        parts = urlsplit(redirect_uri)
        host, _, port = parts.netloc.partition(":")
        return parts.scheme == "http" and host == LOOPBACK and port.isdecimal() and not parts.fragment


@dataclass(frozen=True)
class ServiceClient(_Client):
    """A service that the server knows."""

    client_id: str
    secret_hash: str
    token_generation: int
    grant_types = ("client_credentials",)
    auth_methods = ("client_secret_basic", "client_secret_post")

    def get_client_id(self) -> str:
        return self.client_id

    def check_client_secret(self, client_secret: str) -> bool:
        return hmac.compare_digest(self.secret_hash, hash_of(client_secret))

    def check_redirect_uri(self, redirect_uri: str) -> bool:  # noqa: ARG002 (Authlib's signature)
        return False


def find_client(connection: Connection, client_id: str) -> PublicClient | ServiceClient | None:
    """The client of that id, if there is one that is not disabled."""
    if client_id in PUBLIC_CLIENTS:
        return PublicClient(client_id)
    row = connection.execute(
        select(identities.c.secret_hash, identities.c.token_generation).where(
            identities.c.identity_id == client_id,
            identities.c.kind == IdentityKind.SERVICE.value,
            identities.c.secret_hash.is_not(None),
            identities.c.disabled_at.is_(None),
        )
    ).first()
    return ServiceClient(client_id, row.secret_hash, row.token_generation) if row is not None else None
