"""Identities: the people and services that the server knows, in all of its projects."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection, Integer, cast, exists, select
from sqlalchemy.dialects.postgresql import insert

from server.database import Database
from server.projects import Project, Role
from server.schema import identities
from server.settings import ClientSettings
from server.signin.signing import SigningKeys
from server.signin.tables import revoked_tokens, sign_ins

__all__ = ["BY_SETTINGS", "Identity", "IdentityKind", "KnownTokens", "hash_of", "project_scope", "register_identity"]

BY_SETTINGS = "settings"
_CHECKED_EVERY_SECONDS = 5.0
"""What was taken back is refused at the latest so long afterwards, by every server process."""

_MANY = 1000
_JWT_DOTS = 2


class IdentityKind(StrEnum):
    """What stands behind an identity."""

    PERSON = "person"
    SERVICE = "service"


@dataclass(frozen=True)
class Identity:
    """Somebody whom a token has shown to be who they are."""

    identity_id: str
    kind: IdentityKind
    is_administrator: bool = False
    """Whether they administer the server's identities, of all projects."""
    scope: frozenset[str] | None = None
    """The project scopes that their token is limited to; None if it is good for all they may do."""

    def asked(self, project: Project) -> frozenset[Role] | None:
        """The roles that their token is limited to in a project; None if it is good for all they may do."""
        if self.scope is None:
            return None
        return frozenset(role for role in Role if project_scope(project, role) in self.scope)


@dataclass
class _Known:
    identity: Identity
    expires_at: float
    checked_at: float


class KnownTokens:
    """Finds out whose a bearer token is.

    A token is what this server has issued to somebody who signed in, or the secret of a service itself.

    Args:
        database: Where identities are.
        keys: What issued tokens are signed with.
        issuer: Who issues them: the server's public URL.
    """

    def __init__(self, database: Database, keys: SigningKeys, issuer: str):
        self._database = database
        self._keys = keys
        self._issuer = issuer
        self._known: dict[str, _Known] = {}

    async def identify(self, token: str) -> Identity | None:
        """Whose the token is; None if it is nobody's, or not any more."""
        # Known tokens are looked up without leaving the event loop, because every hop to a thread costs a call of a
        # unit a millisecond; verifying a signature would cost another part of one.
        key, now = hash_of(token), time.time()
        known = self._known.get(key)
        if known is None or now - known.checked_at > _CHECKED_EVERY_SECONDS:
            if known is not None:
                # One call checks, the others do not wait for it.
                known.checked_at = now
            known = await run_in_threadpool(self._find, token, key)
            if known is None:
                self._known.pop(key, None)
                return None
            if len(self._known) > _MANY:
                self._known = {kept: entry for kept, entry in self._known.items() if entry.expires_at > now}
            self._known[key] = known
        if known.expires_at <= now:
            self._known.pop(key, None)
            return None
        return known.identity

    def _find(self, token: str, key: str) -> _Known | None:
        if token.count(".") == _JWT_DOTS and (claims := self._keys.verify_with_new_keys(token)) is not None:
            return self._of_claims(claims)
        return self._of_secret(key)

    def _of_claims(self, claims: Mapping[str, Any]) -> _Known | None:
        now = time.time()
        # What else these keys may have signed, for others to read, is no token for this server.
        is_ours = claims.get("iss") == self._issuer and claims.get("aud") in (self._issuer, claims.get("client_id"))
        if not is_ours or "gen" not in claims or claims["exp"] <= now:
            return None
        conditions = [
            identities.c.identity_id == claims["sub"],
            identities.c.disabled_at.is_(None),
            identities.c.token_generation == claims["gen"],
            ~exists().where(revoked_tokens.c.token_id == claims["jti"]),
        ]
        if "sid" in claims:
            conditions.append(exists().where(sign_ins.c.sign_in_id == claims["sid"], sign_ins.c.revoked_at.is_(None)))
        scope = frozenset(str(claims["scope"]).split()) if claims.get("narrowed") else None
        return self._identity(conditions, claims["exp"], scope)

    def _of_secret(self, secret_hash: str) -> _Known | None:
        conditions = [identities.c.secret_hash == secret_hash, identities.c.disabled_at.is_(None)]
        return self._identity(conditions, float("inf"), None)

    def _identity(self, conditions: list[Any], expires_at: float, scope: frozenset[str] | None) -> _Known | None:
        query = select(identities.c.identity_id, identities.c.kind, identities.c.is_administrator).where(*conditions)
        with self._database.engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        # A token that was asked for less is not one for the server itself.
        is_administrator = row.is_administrator and scope is None
        identity = Identity(row.identity_id, IdentityKind(row.kind), is_administrator, scope)
        return _Known(identity, expires_at, time.time())


def register_identity(connection: Connection, client: ClientSettings) -> None:
    """Makes a client that the settings name, or gives it its new secret.

    Whoever may set the server up may administer it: a client that is given the role of administrator in every project
    administers the server's identities, too.
    """
    values = {
        "secret_hash": hash_of(client.secret.get_secret_value()),
        "kind": IdentityKind.SERVICE.value,
        "is_administrator": client.role is Role.ADMIN,
    }
    statement = insert(identities).values(identity_id=client.client_id, created_by=BY_SETTINGS, **values)
    # What was issued for a secret goes with it.
    is_new = identities.c.secret_hash.is_distinct_from(values["secret_hash"])
    generation = identities.c.token_generation + cast(is_new, Integer)
    changed = {**values, "token_generation": generation}
    connection.execute(statement.on_conflict_do_update(index_elements=["identity_id"], set_=changed))


def project_scope(project: Project, role: Role) -> str:
    """A role in a project, as a scope of OAuth."""
    return f"tbk:scope:project:{project.org}:{project.name}:{role}"


def hash_of(token: str) -> str:
    """What is kept of a secret, a token or a code."""
    # They are 256 random bits: a plain hash is enough, a slow one would protect nothing more.
    return hashlib.sha256(token.encode()).hexdigest()
