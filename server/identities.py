"""Identities: the people and services that the server knows, in all of its projects."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from server.database import Database
from server.schema import identities
from server.settings import ClientSettings

__all__ = ["Identity", "IdentityKind", "KnownTokens", "register_identity"]

_BY_SETTINGS = "settings"


class IdentityKind(StrEnum):
    """What stands behind an identity."""

    PERSON = "person"
    SERVICE = "service"


@dataclass(frozen=True)
class Identity:
    """Somebody whom a token has shown to be who they are."""

    identity_id: str
    kind: IdentityKind


class KnownTokens:
    """Finds out whose a bearer token is.

    Args:
        database: Where identities are.
    """

    def __init__(self, database: Database):
        self._database = database
        self._known: dict[str, Identity] = {}

    async def identify(self, token: str) -> Identity | None:
        """Whose the token is; None if it is nobody's."""
        # Known tokens are looked up without leaving the event loop, because every hop to a thread costs a call of a
        # unit a millisecond.
        key = _hash(token)
        if key not in self._known:
            found = await run_in_threadpool(self._of_secret, key)
            if found is None:
                return None
            self._known[key] = found
        return self._known[key]

    def _of_secret(self, secret_hash: str) -> Identity | None:
        with self._database.engine.connect() as connection:
            row = connection.execute(
                select(identities.c.identity_id, identities.c.kind).where(
                    identities.c.secret_hash == secret_hash, identities.c.disabled_at.is_(None)
                )
            ).first()
        return Identity(row.identity_id, IdentityKind(row.kind)) if row is not None else None


def register_identity(connection: Connection, client: ClientSettings) -> None:
    """Makes a client that the settings name, or gives it its new secret."""
    values = {"secret_hash": _hash(client.secret.get_secret_value()), "kind": IdentityKind.SERVICE.value}
    statement = insert(identities).values(identity_id=client.client_id, created_by=_BY_SETTINGS, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["identity_id"], set_=values))


def _hash(token: str) -> str:
    # Tokens are 256 random bits: a plain hash is enough, a slow one would protect nothing more.
    return hashlib.sha256(token.encode()).hexdigest()
