"""The keys that tokens are signed with: made by themselves, replaced when they are old, published."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

import orjson
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from sqlalchemy import Connection, delete, insert, select, text, update

from server.database import Database
from server.sealing import KeyRing, SealingError
from server.signin.tables import signing_keys

__all__ = ["SigningKeys", "bound_to_key"]

_log = structlog.get_logger(__name__)
_ALGORITHM = "ES256"
_ANNOUNCED = timedelta(minutes=5)
"""A new key is published for so long before it signs: others may keep the published keys for a while."""

_READ_AGAIN = timedelta(seconds=60)
_LOCK_KEY = 7_263_548_113
"""Of PostgreSQL's advisory lock: one server makes a key, the others find it."""


class SigningKeys:
    """Signs and verifies tokens.

    Args:
        database: Where the keys are.
        ring: What their private parts are sealed with.
        rotation: How old a key gets before another takes its place.
        lifetime: How long a token lives at most; a key is published for so long after its last signature.
    """

    def __init__(self, database: Database, ring: KeyRing, rotation: timedelta, lifetime: timedelta):
        self._database = database
        self._ring = ring
        self._rotation = rotation
        self._lifetime = lifetime
        self._public = KeySet([])
        self._private: ECKey | None = None
        self._read_at: datetime | None = None
        self._reading = Lock()

    def refresh(self) -> None:
        """Reads the keys if that was long ago, and makes one if none is young enough. Takes a connection of its own:
        not to be called inside of a transaction."""
        if self._private is None or self._read_at is None or datetime.now(UTC) - self._read_at > _READ_AGAIN:
            self._read()

    def sign(self, claims: Mapping[str, Any], *, kind: str = "JWT") -> str:
        """A signed token with these claims; `kind` is what its header says as `typ`. `refresh` has to come first."""
        key = self._private
        assert key is not None, "`refresh` was not called"  # noqa: S101
        return jwt.encode({"alg": _ALGORITHM, "kid": key.kid, "typ": kind}, dict(claims), key, algorithms=[_ALGORITHM])

    def verify(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that one of the keys that are known has signed; None for any other.

        Whether it is still valid is not looked at.
        """
        try:
            return jwt.decode(token, self._public, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError):
            return None

    def verify_with_new_keys(self, token: str) -> dict[str, Any] | None:
        """As `verify`, and looks for a key that another server has made since; not inside of a transaction."""
        claims = self.verify(token)
        if claims is None:
            self._read()
            claims = self.verify(token)
        return claims

    def published(self) -> dict[str, Any]:
        """The public keys, as a JSON Web Key Set; not inside of a transaction."""
        self.refresh()
        return {"keys": [key.as_dict(private=False) for key in self._public.keys]}

    def _read(self) -> None:
        with self._reading, self._database.engine.begin() as connection:
            rows = self._rows(connection)
            if self._is_due(rows):
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
                rows = self._rows(connection)
                if self._is_due(rows):
                    self._make(connection)
                    self._forget(connection, rows)
                    rows = self._rows(connection)
            self._private = self._unsealed(connection, rows)
            self._public = KeySet([ECKey.import_key(_json(row.public_key)) for row in rows])
            self._read_at = datetime.now(UTC)

    @staticmethod
    def _rows(connection: Connection) -> list[Any]:
        return list(connection.execute(select(signing_keys).order_by(signing_keys.c.created_at.desc())))

    def _is_due(self, rows: list[Any]) -> bool:
        now = datetime.now(UTC)
        return not any(now - row.created_at < self._rotation and self._readable(row) is not None for row in rows)

    def _readable(self, row: Any) -> ECKey | None:
        try:
            private = self._ring.unseal(row.sealed_private_key, bound_to=bound_to_key(row.key_id))
        except SealingError as error:
            _log.warning("signing_key_unreadable", key_id=row.key_id, error=str(error))
            return None
        return ECKey.import_key(_json(private))

    def _unsealed(self, connection: Connection, rows: list[Any]) -> ECKey:
        readable = [(row, key) for row in rows if (key := self._readable(row)) is not None]
        for row, key in readable:
            if not self._ring.is_newest(row.sealed_private_key):
                connection.execute(
                    update(signing_keys)
                    .where(signing_keys.c.key_id == row.key_id)
                    .values(sealed_private_key=self._sealed(row.key_id, key))
                )
        announced = datetime.now(UTC) - _ANNOUNCED
        return next((key for row, key in readable if row.created_at <= announced), readable[-1][1])

    def _make(self, connection: Connection) -> None:
        key_id = secrets.token_urlsafe(9)
        key = ECKey.generate_key("P-256", {"kid": key_id, "use": "sig", "alg": _ALGORITHM}, private=True)
        connection.execute(
            insert(signing_keys).values(
                key_id=key_id,
                public_key=_text(key.as_dict(private=False)),
                sealed_private_key=self._sealed(key_id, key),
                # Not the start of the transaction, which may have waited for the lock.
                created_at=text("clock_timestamp()"),
            )
        )
        _log.info("signing_key_made", key_id=key_id)

    def _forget(self, connection: Connection, rows: list[Any]) -> None:
        # The newest of them signed until now, and goes on until its successor is announced.
        longest = datetime.now(UTC) - self._rotation - self._lifetime - 2 * _ANNOUNCED
        old = [row.key_id for row in rows[1:] if row.created_at < longest]
        connection.execute(delete(signing_keys).where(signing_keys.c.key_id.in_(old)))

    def _sealed(self, key_id: str, key: ECKey) -> str:
        return self._ring.seal(_text(key.as_dict(private=True)).encode(), bound_to=bound_to_key(key_id))


def bound_to_key(key_id: str) -> str:
    """What the private part of a key is sealed for."""
    return f"signing-key/{key_id}"


def _text(key: Mapping[str, Any]) -> str:
    return orjson.dumps(key).decode()


def _json(key: str | bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(key)
    return found
