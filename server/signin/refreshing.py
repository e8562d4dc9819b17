"""Refresh tokens: each is good for one use, and a second use shows that somebody else has it, too."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749 import TokenMixin
from authlib.oauth2.rfc6749.grants import RefreshTokenGrant
from authlib.oauth2.rfc7009 import RevocationEndpoint
from sqlalchemy import Row, func, select, update

from server.identities import hash_of
from server.signin.clients import PublicClient, ServiceClient
from server.signin.issuing import Person, find_person, revoke_sign_in, revoke_token
from server.signin.tables import refresh_tokens, sign_ins

if TYPE_CHECKING:
    from server.signin.authorization import Authorization, Parameters

__all__ = ["RefreshGrant", "Revocation"]


@dataclass(frozen=True)
class _Issued(TokenMixin):  # type: ignore[misc]
    """A token that was issued: of a family, or by itself."""

    client_id: str
    sign_in_id: str | None
    scope: str = ""
    identity_id: str = ""
    token_generation: int = 0
    token_id: str | None = None
    expires_at: float = 0
    token_hash: str = ""

    def check_client(self, client: PublicClient | ServiceClient) -> bool:
        return client.client_id == self.client_id

    def get_scope(self) -> str:
        return self.scope


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    """Gives new tokens for a refresh token, a new one of that kind included."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)
    INCLUDE_NEW_REFRESH_TOKEN = True
    server: "Authorization"

    def authenticate_refresh_token(self, refresh_token: str) -> _Issued | None:
        connection = self.server.connection
        row = _kept(self.server, refresh_token)
        if row is None or row.revoked_at is not None or row.expires_at < datetime.now(UTC):
            return None
        if row.used_at is not None:
            revoke_sign_in(connection, row.sign_in_id)
            return None
        return _Issued(
            row.client_id, row.sign_in_id, row.scope, row.identity_id, row.token_generation, token_hash=row.token_hash
        )

    def authenticate_user(self, refresh_token: _Issued) -> Person | None:
        person = find_person(self.server.connection, refresh_token.identity_id)
        return person if person and person.token_generation == refresh_token.token_generation else None

    def generate_token(self, *, user: Person, scope: str, **_: Any) -> dict[str, Any]:
        issued: _Issued = self.request.refresh_token
        assert issued.sign_in_id is not None  # noqa: S101 - a refresh token is always one of a family
        return self.server.issuer.to_person(
            self.server.connection, user, issued.client_id, scope, issued.sign_in_id, None
        )

    def revoke_old_credential(self, refresh_token: _Issued) -> None:
        # Its row is locked since it was read.
        self.server.connection.execute(
            update(refresh_tokens)
            .where(refresh_tokens.c.token_hash == refresh_token.token_hash)
            .values(used_at=func.now())
        )


class Revocation(RevocationEndpoint):  # type: ignore[misc]
    """Takes tokens back: a person's with all of their family, a service's by itself."""

    CLIENT_AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")
    server: "Authorization"

    def query_token(self, token_string: str, token_type_hint: str | None) -> _Issued | None:  # noqa: ARG002 (both are tried)
        row = _kept(self.server, token_string)
        if row is not None:
            return _Issued(row.client_id, row.sign_in_id)
        claims = self.server.issuer.keys.verify(token_string)
        if claims is None or claims.get("iss") != self.server.issuer.url or "gen" not in claims:
            return None
        return _Issued(claims["client_id"], claims.get("sid"), token_id=claims["jti"], expires_at=float(claims["exp"]))

    def revoke_token(self, token: _Issued, request: "Parameters") -> None:  # noqa: ARG002 (Authlib's signature)
        if token.sign_in_id is not None:
            revoke_sign_in(self.server.connection, token.sign_in_id)
        elif token.token_id is not None:
            revoke_token(self.server.connection, token.token_id, token.expires_at)


def _kept(server: "Authorization", refresh_token: str) -> Row[Any] | None:
    return server.connection.execute(
        select(refresh_tokens.c.token_hash, refresh_tokens.c.scope, refresh_tokens.c.used_at, sign_ins)
        .join(sign_ins, sign_ins.c.sign_in_id == refresh_tokens.c.sign_in_id)
        .where(refresh_tokens.c.token_hash == hash_of(refresh_token))
        .with_for_update()
    ).first()
