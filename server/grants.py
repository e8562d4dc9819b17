"""Grants: what identities may do in a project."""

import time
from uuid import uuid4

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection, Row, delete, insert, select, text

from server.audit_log import add_entry
from server.database import Database, Transaction
from server.errors import ApiError
from server.identities import BY_SETTINGS, IdentityKind
from server.permissions import EVERYTHING, MACHINES, Globs, HeldGrant, Permissions, actions_of
from server.projects import Project
from server.schema import grants, identities
from server.settings import ClientSettings
from tcloud.wire.grants import Action, Grant, GrantRequest, Role
from tempomesh_runner.selection import SelectionError, check_selection

__all__ = ["KnownGrants", "add_grant", "give_role", "grant_roles_of_settings", "grants_of", "remove_grant"]

_FRESH_SECONDS = 3.0
"""So long after a change by another server, a grant may still be believed here."""


class KnownGrants:
    """Looks up what identities are granted, and remembers it for a few seconds.

    Args:
        database: Where grants are.
    """

    def __init__(self, database: Database):
        self._database = database
        self._known: dict[tuple[Project, str], tuple[Permissions, float]] = {}

    async def of(self, project: Project, identity_id: str) -> Permissions:
        """What an identity may do in a project; nothing if it has no business there."""
        # Mostly without a hop to a thread, which costs a call of a unit a millisecond.
        key = (project, identity_id)
        known, read_at = self._known.get(key, (None, 0.0))
        if known is not None and time.monotonic() - read_at < _FRESH_SECONDS:
            return known
        found = await run_in_threadpool(self._read, project, identity_id)
        self._known[key] = found, time.monotonic()
        return found

    def forget(self) -> None:
        """Has everything read again: grants have changed."""
        self._known.clear()

    def _read(self, project: Project, identity_id: str) -> Permissions:
        with self._database.engine.connect() as connection:
            rows = connection.execute(
                select(grants).where(grants.c.project == project.namespace, grants.c.identity_id == identity_id)
            ).all()
        held = [_grant(row) for row in rows]
        return Permissions(
            tuple(
                HeldGrant(frozenset(one.actions), Globs(frozenset(one.environments)), frozenset(one.models))
                for one in held
            ),
            frozenset(one.role for one in held if one.role in MACHINES),
        )


def grants_of(transaction: Transaction, identity_id: str | None = None) -> list[Grant]:
    """The grants of a project, of one identity or of all, by identity and age."""
    query = select(grants).where(grants.c.project == transaction.project.namespace)
    if identity_id is not None:
        query = query.where(grants.c.identity_id == identity_id)
    rows = transaction.connection.execute(query.order_by(grants.c.identity_id, grants.c.created_at, grants.c.grant_id))
    return [_grant(row) for row in rows]


def add_grant(transaction: Transaction, request: GrantRequest, by: str) -> tuple[Grant, bool]:
    """Grants something; what is granted already is left as it is.

    Returns:
        The grant, and whether it is new.

    Raises:
        ApiError: 404 if there is no such identity, 422 if the request means nothing.
    """
    _check(request)
    _check_identity(transaction, request)
    wanted = {
        "role": request.role,
        "actions": sorted(set(request.actions), key=list(Action).index),
        "environments": sorted(set(request.environments)),
        "models": sorted({selection.strip() for selection in request.models}),
    }
    _lock(transaction)
    for row in transaction.connection.execute(
        select(grants).where(
            grants.c.project == transaction.project.namespace, grants.c.identity_id == request.identity_id
        )
    ):
        if all(getattr(row, name) == value for name, value in wanted.items()):
            return _grant(row), False
    added = transaction.connection.execute(
        insert(grants)
        .values(
            grant_id=uuid4().hex[:12],
            project=transaction.project.namespace,
            identity_id=request.identity_id,
            created_by=by,
            **wanted,
        )
        .returning(grants)
    ).one()
    found = _grant(added)
    add_entry(transaction, by, "grant.add", request.identity_id, _details(found))
    return found, True


def remove_grant(transaction: Transaction, grant_id: str, by: str) -> Grant:
    """Takes a grant back.

    Raises:
        ApiError: 404 if there is none, 409 if it is the settings' or the last administrator's.
    """
    _lock(transaction)
    all_grants = grants_of(transaction)
    found = next((each for each in all_grants if each.grant_id == grant_id), None)
    if found is None:
        raise ApiError(
            404,
            "TM-GRANT",
            f"There is no grant '{grant_id}' in {transaction.project.namespace}: see `tcloud grants list`.",
        )
    if found.created_by == BY_SETTINGS:
        raise ApiError(
            409,
            "TM-GRANT",
            f"Grant '{grant_id}' of '{found.identity_id}' is one of the server's settings, and would be back at its "
            "next start: change TEMPOMESH_SERVER_CLIENTS.",
        )
    if _administers(found) and not any(
        _administers(other) and _is_enabled(transaction, other.identity_id)
        for other in all_grants
        if other.grant_id != grant_id
    ):
        raise ApiError(
            409,
            "TM-GRANT",
            f"'{found.identity_id}' is the last administrator of {transaction.project.namespace}: make another one "
            "first, with `tcloud grants add WHO admin`.",
        )
    transaction.connection.execute(
        delete(grants).where(grants.c.project == transaction.project.namespace, grants.c.grant_id == grant_id)
    )
    add_entry(transaction, by, "grant.remove", found.identity_id, _details(found))
    return found


def give_role(connection: Connection, project: Project, identity_id: str, role: Role, created_by: str) -> None:
    """Grants a role in a project."""
    connection.execute(
        insert(grants).values(
            project=project.namespace, identity_id=identity_id, role=role.value, created_by=created_by
        )
    )


def grant_roles_of_settings(connection: Connection, project: Project, client: ClientSettings) -> None:
    """Gives a client in a project the role that the settings name, in place of the one they named before."""
    mine = {"project": project.namespace, "identity_id": client.client_id, "created_by": BY_SETTINGS}
    connection.execute(delete(grants).where(*(grants.c[name] == value for name, value in mine.items())))
    connection.execute(insert(grants).values(role=client.role.value, **mine))


def _check(request: GrantRequest) -> None:
    if (request.role is None) == (not request.actions):
        raise ApiError(422, "TM-REQUEST", "role, actions: a grant is of a role, or of actions; give one of the two.")
    is_bounded = request.environments != [EVERYTHING] or request.models != [EVERYTHING]
    if request.role in MACHINES and is_bounded:
        raise ApiError(
            422,
            "TM-REQUEST",
            f"role: {request.role} is for processes, which serve the whole project: it has no bounds.",
        )
    if is_bounded and Action.QUERY in request.actions:
        raise ApiError(
            422,
            "TM-REQUEST",
            "actions: query has no bounds: a statement may read anything that the executor's credentials let it.",
        )
    for pattern in request.environments:
        if not Globs.is_valid(pattern):
            raise ApiError(
                422,
                "TM-REQUEST",
                f"environments: '{pattern}' is no pattern of environments: lower-case letters, digits and _, with * "
                "for any characters and ? for one.",
            )
    for selection in request.models:
        try:
            check_selection(selection)
        except SelectionError as error:
            raise ApiError(422, "TM-REQUEST", f"models: '{selection}' cannot be read: {error}") from error


def _check_identity(transaction: Transaction, request: GrantRequest) -> None:
    rows = transaction.connection.execute(
        select(identities.c.identity_id, identities.c.kind).where(identities.c.disabled_at.is_(None))
    )
    known = {row.identity_id: row.kind for row in rows}
    kind = known.get(request.identity_id)
    if kind is None:
        raise ApiError(
            404,
            "TM-IDENTITY",
            f"This server knows nobody called '{request.identity_id}'; it knows {', '.join(sorted(known))}.",
        )
    if request.role in MACHINES and kind == IdentityKind.PERSON:
        raise ApiError(
            422, "TM-REQUEST", f"role: {request.role} is for processes, and '{request.identity_id}' is a person."
        )


def _administers(grant: Grant) -> bool:
    everything = [EVERYTHING]
    return Action.MANAGE in grant.actions and grant.environments == everything and grant.models == everything


def _is_enabled(transaction: Transaction, identity_id: str) -> bool:
    return (
        transaction.connection.execute(
            select(identities.c.identity_id).where(
                identities.c.identity_id == identity_id, identities.c.disabled_at.is_(None)
            )
        ).first()
        is not None
    )


def _lock(transaction: Transaction) -> None:
    # Two administrators who take each other's grant at the same moment would leave none.
    transaction.connection.execute(text("LOCK TABLE tempomesh.grants IN SHARE ROW EXCLUSIVE MODE"))


def _grant(row: Row[tuple[object, ...]]) -> Grant:
    found = dict(row._mapping)
    if found["role"] is not None:
        found["actions"] = sorted(actions_of(Role(str(found["role"]))), key=list(Action).index)
    return Grant.model_validate(found)


def _details(grant: Grant) -> dict[str, object]:
    return grant.model_dump(mode="json", include={"grant_id", "role", "actions", "environments", "models"})
