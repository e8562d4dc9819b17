"""Authorization codes: a person's browser brings one to the program on their machine, which redeems it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, InvalidRequestError, OAuth2Request
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from sqlalchemy import insert, select, update

from server.identities import hash_of
from server.signin.clients import PublicClient
from server.signin.issuing import Person, find_person, revoke_sign_in
from server.signin.scopes import requested_scope
from server.signin.tables import authorization_codes

if TYPE_CHECKING:
    from server.signin.authorization import Authorization

__all__ = ["CodeGrant", "OnlyS256"]

_LIFETIME = timedelta(minutes=2)


class OnlyS256(CodeChallenge):  # type: ignore[misc]
    """PKCE, which is not left to the client, and in its one form that protects the code."""

    DEFAULT_CODE_CHALLENGE_METHOD = "S256"
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: AuthorizationCodeGrant, redirect_uri: str) -> None:
        sent = grant.request.payload.data
        if not sent.get("code_challenge") or sent.get("code_challenge_method") != "S256":
            raise InvalidRequestError("A 'code_challenge' of the method S256 is needed.")
        super().validate_code_challenge(grant, redirect_uri)


@dataclass(frozen=True)
class _Code(AuthorizationCodeMixin):  # type: ignore[misc]
    code_hash: str
    identity_id: str
    redirect_uri: str
    scope: str
    code_challenge: str
    nonce: str | None
    code_challenge_method = "S256"

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    """Gives a code out, and redeems it once."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)
    server: "Authorization"

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        self.server.connection.execute(
            insert(authorization_codes).values(
                code_hash=hash_of(code),
                client_id=request.client.client_id,
                identity_id=request.user.identity_id,
                redirect_uri=request.payload.redirect_uri,
                scope=requested_scope(request.scope),
                code_challenge=request.payload.data["code_challenge"],
                nonce=request.payload.data.get("nonce"),
                expires_at=datetime.now(UTC) + _LIFETIME,
            )
        )

    def query_authorization_code(self, code: str, client: PublicClient) -> _Code | None:
        row = self.server.connection.execute(
            select(authorization_codes)
            .where(
                authorization_codes.c.code_hash == hash_of(code), authorization_codes.c.client_id == client.client_id
            )
            .with_for_update()
        ).first()
        if row is None or row.expires_at < datetime.now(UTC):
            return None
        if row.sign_in_id is not None:
            # Two have it, and one of them stole it.
            revoke_sign_in(self.server.connection, row.sign_in_id)
            return None
        return _Code(row.code_hash, row.identity_id, row.redirect_uri, row.scope, row.code_challenge, row.nonce)

    def authenticate_user(self, authorization_code: _Code) -> Person | None:
        return find_person(self.server.connection, authorization_code.identity_id)

    def generate_token(self, *, user: Person, scope: str, **_: Any) -> dict[str, Any]:
        code: _Code = self.request.authorization_code
        connection, issuer = self.server.connection, self.server.issuer
        client_id = self.request.client.client_id
        sign_in_id = issuer.begin_sign_in(connection, user, client_id)
        connection.execute(
            update(authorization_codes)
            .where(authorization_codes.c.code_hash == code.code_hash)
            .values(sign_in_id=sign_in_id)
        )
        return issuer.to_person(connection, user, client_id, scope, sign_in_id, code.nonce)

    def delete_authorization_code(self, authorization_code: _Code) -> None:
        """It stays until its end, to be recognized should it come again."""
