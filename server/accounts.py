"""Making and changing identities: clients with a secret, accounts of people with a password."""

import re
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from server.audit_log import BY_ITSELF
from server.identities import BY_SETTINGS, IdentityKind, hash_of
from server.schema import grants, identities
from server.signin.clients import PUBLIC_CLIENTS
from server.signin.passwords import hash_password
from tcloud.wire.identities import IdentityRecord

__all__ = [
    "AccountError",
    "create_account",
    "create_client",
    "delete_identity",
    "has_administrator",
    "identity_records",
    "new_one_time_password",
    "rotate_secret",
    "set_disabled",
    "set_password",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}\Z")
_RESERVED = {*PUBLIC_CLIENTS, BY_SETTINGS, BY_ITSELF}
"""Names that records have for others than people and services."""

_SECRET_BYTES = 32
_PASSWORD_BYTES = 15
_COLUMNS = (
    *("identity_id", "kind", "display_name", "created_by", "created_at", "disabled_at", "is_administrator"),
    "password_is_one_time",
)


class AccountError(Exception):
    """An identity that cannot be made, or is not there; the message says why.

    Args:
        message: One line.
        is_missing: Whether there is none of that name.
    """

    def __init__(self, message: str, *, is_missing: bool = False):
        super().__init__(message)
        self.is_missing = is_missing


def create_client(
    connection: Connection,
    client_id: str,
    created_by: str,
    *,
    display_name: str | None = None,
    is_administrator: bool = False,
) -> str:
    """Makes a service, and returns its secret, which nobody can read again.

    Raises:
        AccountError: If the name is taken or is none.
    """
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    _insert(
        connection,
        client_id,
        kind=IdentityKind.SERVICE.value,
        display_name=display_name,
        secret_hash=hash_of(secret),
        created_by=created_by,
        is_administrator=is_administrator,
    )
    return secret


def create_account(
    connection: Connection,
    identity_id: str,
    created_by: str,
    *,
    display_name: str | None = None,
    is_administrator: bool = False,
) -> str:
    """Makes a person, and returns a password that is good for signing in once and choosing another.

    Raises:
        AccountError: If the name is taken or is none.
    """
    password = new_one_time_password()
    _insert(
        connection,
        identity_id,
        kind=IdentityKind.PERSON.value,
        display_name=display_name,
        password_hash=hash_password(password),
        password_is_one_time=True,
        created_by=created_by,
        is_administrator=is_administrator,
    )
    return password


def new_one_time_password() -> str:
    """A random password, to be replaced by its owner."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


def rotate_secret(connection: Connection, client_id: str) -> str:
    """Gives a service a new secret; the old one, and what was issued for it, is not valid any more.

    Raises:
        AccountError: If there is no service of that name.
    """
    _refuse_settings(connection, client_id)
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    _update(connection, client_id, IdentityKind.SERVICE, secret_hash=hash_of(secret))
    return secret


def set_password(connection: Connection, identity_id: str, password: str, *, is_one_time: bool) -> None:
    """Gives a person a password; wherever they are signed in, they are not any more.

    Raises:
        AccountError: If there is no person of that name.
    """
    _update(
        connection,
        identity_id,
        IdentityKind.PERSON,
        password_hash=hash_password(password),
        password_is_one_time=is_one_time,
    )


def set_disabled(connection: Connection, identity_id: str, kind: IdentityKind, *, is_disabled: bool) -> None:
    """Shuts somebody out, or lets them in again; what was issued to them before stays invalid.

    Raises:
        AccountError: If there is nobody of that name, or nobody else administers the server.
    """
    if is_disabled:
        _keep_an_administrator(connection, identity_id)
    _update(connection, identity_id, kind, disabled_at=func.now() if is_disabled else None)


def delete_identity(connection: Connection, identity_id: str, kind: IdentityKind) -> None:
    """Deletes an identity with all that it was granted.

    Raises:
        AccountError: If there is nobody of that name, or nobody else administers the server.
    """
    _refuse_settings(connection, identity_id)
    _keep_an_administrator(connection, identity_id)
    found = connection.execute(
        delete(identities)
        .where(identities.c.identity_id == identity_id, identities.c.kind == kind.value)
        .returning(identities.c.identity_id)
    )
    if found.scalar() is None:
        raise _missing(identity_id, kind)


def has_administrator(connection: Connection) -> bool:
    """Whether somebody administers the server who is not disabled."""
    return _administrators(connection) != []


def identity_records(connection: Connection, kind: IdentityKind) -> list[IdentityRecord]:
    """All identities of a kind, without their secrets, by name."""
    rows = connection.execute(
        select(*(identities.c[name] for name in _COLUMNS))
        .where(identities.c.kind == kind.value)
        .order_by(identities.c.identity_id)
    ).all()
    roles: dict[str, list[str]] = {}
    for row in connection.execute(select(grants).where(grants.c.role.is_not(None)).order_by(grants.c.project)):
        roles.setdefault(row.identity_id, []).append(f"{row.project}:{row.role}")
    return [IdentityRecord.model_validate({**row._mapping, "roles": roles.get(row.identity_id, [])}) for row in rows]


def _insert(connection: Connection, identity_id: str, **values: Any) -> None:
    if not _NAME.match(identity_id) or identity_id in _RESERVED:
        raise AccountError(
            f"'{identity_id}' cannot be a name: letters, digits and . _ @ + - are taken, and some names are reserved."
        )
    taken = connection.execute(select(identities.c.kind).where(identities.c.identity_id == identity_id)).scalar()
    if taken is not None:
        raise AccountError(f"There is a {taken} '{identity_id}' already.")
    connection.execute(insert(identities).values(identity_id=identity_id, **values))


def _update(connection: Connection, identity_id: str, kind: IdentityKind, **values: Any) -> None:
    found = connection.execute(
        update(identities)
        .where(identities.c.identity_id == identity_id, identities.c.kind == kind.value)
        .values(token_generation=identities.c.token_generation + 1, **values)
        .returning(identities.c.identity_id)
    )
    if found.scalar() is None:
        raise _missing(identity_id, kind)


def _missing(identity_id: str, kind: IdentityKind) -> AccountError:
    return AccountError(f"There is no {kind} '{identity_id}'.", is_missing=True)


def _refuse_settings(connection: Connection, identity_id: str) -> None:
    made_by = connection.execute(
        select(identities.c.created_by).where(identities.c.identity_id == identity_id)
    ).scalar()
    if made_by == BY_SETTINGS:
        raise AccountError(f"'{identity_id}' is set up by TEMPOMESH_SERVER_CLIENTS: change it there.")


def _administrators(connection: Connection) -> Sequence[str]:
    return list(
        connection.execute(
            select(identities.c.identity_id).where(identities.c.is_administrator, identities.c.disabled_at.is_(None))
        ).scalars()
    )


def _keep_an_administrator(connection: Connection, identity_id: str) -> None:
    if _administrators(connection) == [identity_id]:
        raise AccountError(f"'{identity_id}' is the last administrator of this server: make another one first.")
