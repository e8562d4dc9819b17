"""The first administrator: made by whoever may set the server up, since nobody can be asked yet."""

from collections.abc import Sequence

from sqlalchemy import select, update

from server.accounts import (
    AccountError,
    create_account,
    create_client,
    has_administrator,
    new_one_time_password,
    rotate_secret,
    set_disabled,
    set_password,
)
from server.audit_log import BY_ITSELF, add_entry
from server.database import Database, Transaction
from server.grants import give_role
from server.identities import IdentityKind
from server.projects import Project, Role
from server.schema import grants, identities

__all__ = ["make_administrator"]


def make_administrator(
    database: Database, projects: Sequence[Project], name: str, kind: IdentityKind, *, is_again: bool
) -> str:
    """Makes somebody who administers the server and all of its projects.

    Args:
        database: The server's.
        projects: Its projects.
        name: The identity's.
        kind: A person or a service.
        is_again: Whether there may be an administrator already, and whether one of that name gets a new secret.

    Returns:
        The secret, or a password for once; nobody can read it again.

    Raises:
        AccountError: If there is an administrator already, or the name is taken or is none.
    """
    first, *others = projects
    with database.transaction(first) as transaction:
        connection = transaction.connection
        if has_administrator(connection) and not is_again:
            raise AccountError(
                "This server has an administrator already. If nobody can sign in any more, make another with --again."
            )
        known = connection.execute(select(identities.c.kind).where(identities.c.identity_id == name)).scalar()
        if known is None:
            create = create_account if kind is IdentityKind.PERSON else create_client
            secret = create(connection, name, BY_ITSELF, is_administrator=True)
        else:
            secret = _recover(transaction, name, kind)
        for project in projects:
            _make_admin_of(transaction, project, name)
        add_entry(transaction, BY_ITSELF, "administrator.make", name, {"kind": kind.value})
    for project in others:
        with database.transaction(project) as transaction:
            add_entry(transaction, BY_ITSELF, "administrator.make", name, {"kind": kind.value})
    return secret


def _recover(transaction: Transaction, name: str, kind: IdentityKind) -> str:
    set_disabled(transaction.connection, name, kind, is_disabled=False)
    transaction.connection.execute(
        update(identities).where(identities.c.identity_id == name).values(is_administrator=True)
    )
    if kind is IdentityKind.SERVICE:
        return rotate_secret(transaction.connection, name)
    password = new_one_time_password()
    set_password(transaction.connection, name, password, is_one_time=True)
    return password


def _make_admin_of(transaction: Transaction, project: Project, name: str) -> None:
    held = transaction.connection.execute(
        select(grants.c.grant_id).where(
            grants.c.project == project.namespace,
            grants.c.identity_id == name,
            grants.c.role == Role.ADMIN.value,
        )
    )
    if held.first() is None:
        give_role(transaction.connection, project, name, Role.ADMIN, BY_ITSELF)
