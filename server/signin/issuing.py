"""What is issued to somebody who has signed in, and how it is taken back."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from server.identities import IdentityKind, hash_of
from server.schema import identities
from server.signin.scopes import ALL_PROJECTS, held_scopes, is_narrowed
from server.signin.signing import SigningKeys
from server.signin.tables import refresh_tokens, revoked_tokens, sign_ins

__all__ = ["Issuer", "Person", "find_person", "revoke_sign_in", "revoke_token"]

_TOKEN_BYTES = 32


@dataclass(frozen=True)
class Person:
    """Somebody who has signed in."""

    identity_id: str
    display_name: str | None
    token_generation: int
    password_is_one_time: bool


@dataclass(frozen=True)
class Issuer:
    """Issues tokens.

    Args:
        url: The server's public URL: who issues them.
        keys: What signs them.
        lifetime: How long an access token lives.
        sign_in_lifetime: How long a person stays signed in, counted from when they were.
    """

    url: str
    keys: SigningKeys
    lifetime: timedelta
    sign_in_lifetime: timedelta

    def to_service(self, connection: Connection, client_id: str, token_generation: int, scope: str) -> dict[str, Any]:
        """A token for a service."""
        return self._tokens(connection, client_id, client_id, token_generation, scope, {})

    def begin_sign_in(self, connection: Connection, person: Person, client_id: str) -> str:
        """Opens a family of tokens, and returns its id."""
        sign_in_id = secrets.token_urlsafe(16)
        connection.execute(
            insert(sign_ins).values(
                sign_in_id=sign_in_id,
                identity_id=person.identity_id,
                client_id=client_id,
                token_generation=person.token_generation,
                expires_at=datetime.now(UTC) + self.sign_in_lifetime,
            )
        )
        return sign_in_id

    def to_person(
        self, connection: Connection, person: Person, client_id: str, scope: str, sign_in_id: str, nonce: str | None
    ) -> dict[str, Any]:
        """A token of a family, and what to get the next one with."""
        more = {"sid": sign_in_id, "nonce": nonce, "name": person.display_name or person.identity_id}
        if "@" in person.identity_id:
            more["email"] = person.identity_id
        tokens = self._tokens(connection, person.identity_id, client_id, person.token_generation, scope, more)
        tokens["refresh_token"] = secrets.token_urlsafe(_TOKEN_BYTES)
        connection.execute(
            insert(refresh_tokens).values(
                token_hash=hash_of(tokens["refresh_token"]), sign_in_id=sign_in_id, scope=scope
            )
        )
        return tokens

    def _tokens(
        self,
        connection: Connection,
        identity_id: str,
        client_id: str,
        token_generation: int,
        scope: str,
        more: Mapping[str, str | None],
    ) -> dict[str, Any]:
        issued_at, lifetime = int(time.time()), int(self.lifetime.total_seconds())
        others = [] if is_narrowed(scope) else held_scopes(connection, identity_id)
        claims = {
            "iss": self.url,
            "sub": identity_id,
            "client_id": client_id,
            "iat": issued_at,
            "exp": issued_at + lifetime,
            "jti": secrets.token_urlsafe(16),
            "gen": token_generation,
            "scope": " ".join([*(part for part in scope.split() if part != ALL_PROJECTS), *others]),
            "narrowed": is_narrowed(scope) or None,
            **more,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return {
            "token_type": "Bearer",
            "access_token": self.keys.sign({**claims, "aud": self.url}, kind="at+jwt"),
            "id_token": self.keys.sign({**claims, "aud": client_id}),
            "expires_in": lifetime,
            "scope": scope,
        }


def find_person(connection: Connection, identity_id: str) -> Person | None:
    """The person of that id, if there is one who is not disabled."""
    row = connection.execute(
        select(
            identities.c.identity_id,
            identities.c.display_name,
            identities.c.token_generation,
            identities.c.password_is_one_time,
        ).where(
            identities.c.identity_id == identity_id,
            identities.c.kind == IdentityKind.PERSON.value,
            identities.c.disabled_at.is_(None),
        )
    ).first()
    return Person(**row._mapping) if row is not None else None


def revoke_sign_in(connection: Connection, sign_in_id: str) -> None:
    """Takes a family of tokens back."""
    connection.execute(
        update(sign_ins)
        .where(sign_ins.c.sign_in_id == sign_in_id, sign_ins.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


def revoke_token(connection: Connection, token_id: str, expires_at: float) -> None:
    """Takes one access token back, and the id token that was issued with it."""
    values = {"token_id": token_id, "expires_at": datetime.fromtimestamp(expires_at, UTC)}
    connection.execute(upsert(revoked_tokens).values(values).on_conflict_do_nothing())
