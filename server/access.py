"""The one door: who calls, for which project, and whether the role is enough."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from server.database import Database, Transaction
from server.errors import ApiError
from server.projects import Project, Role
from server.schema import clients
from server.settings import ClientSettings

__all__ = ["PUBLIC", "Access", "project_of", "register_clients", "require"]

PUBLIC = "public"
"""Marks a route that anyone may call."""

_PEOPLE = (Role.VIEWER, Role.DEVELOPER, Role.ADMIN)
_bearer = HTTPBearer(auto_error=False, description="A client's token.")


@dataclass(frozen=True)
class Access:
    """A caller that has been let in."""

    project: Project
    client_id: str
    role: Role
    database: Database


def require(*roles: Role) -> Callable[..., Awaitable[Access]]:
    """A dependency that lets in callers with one of the roles, or with a person's role above one of them.

    Raises (when called):
        ApiError: 401 without a valid token, 403 with one whose role is not enough, 404 for an unknown project.
    """
    sufficient = _with_higher(roles)

    async def let_in(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Access:
        project = project_of(request)
        if credentials is None:
            raise ApiError(
                401,
                "TM-TOKEN",
                f"No token was sent for project '{project.namespace}': set TCLOUD_TOKEN, "
                "or TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET.",
            )
        database: Database = request.app.state.database
        found = await _identify(request, database, project, credentials.credentials)
        if found is None:
            raise ApiError(
                401,
                "TM-TOKEN",
                f"The token is not valid for project '{project.namespace}': check TCLOUD_TOKEN, "
                "or TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET.",
            )
        client_id, role = found
        if role not in sufficient:
            needed = " or ".join(roles)
            raise ApiError(
                403, "TM-ROLE", f"Client '{client_id}' has the role {role}; {request.url.path} takes {needed}."
            )
        return Access(project, client_id, role, database)

    let_in.required_roles = roles  # type: ignore[attr-defined]
    return let_in


def project_of(request: Request) -> Project:
    """The project that a request's path names.

    Raises:
        ApiError: 404 if the server has none of that name.
    """
    project = Project(request.path_params["org"], request.path_params["project"])
    if project not in request.app.state.projects:
        raise ApiError(
            404,
            "TM-PROJECT",
            f"This server has no project '{project.org}/{project.name}': check the end of TCLOUD_URL.",
        )
    return project


def register_clients(transaction: Transaction, settings: list[ClientSettings]) -> None:
    """Makes the clients that the settings name, or gives them their new role and secret."""
    for client in settings:
        values = {"role": client.role.value, "secret_hash": _hash(client.secret.get_secret_value())}
        statement = insert(clients).values(project=transaction.project.namespace, client_id=client.client_id, **values)
        transaction.connection.execute(
            statement.on_conflict_do_update(index_elements=["project", "client_id"], set_=values)
        )


async def _identify(request: Request, database: Database, project: Project, token: str) -> tuple[str, Role] | None:
    # Roles of known tokens are kept for the life of the process: they change only when the server starts. They are
    # looked up without leaving the event loop, because every hop to a thread costs a call of a unit a millisecond.
    known: dict[tuple[Project, str], tuple[str, Role]] = request.app.state.known_tokens
    key = (project, _hash(token))
    if key not in known:
        found = await run_in_threadpool(_client, database, project, key[1])
        if found is None:
            return None
        known[key] = found
    return known[key]


def _client(database: Database, project: Project, secret_hash: str) -> tuple[str, Role] | None:
    with database.transaction(project) as transaction:
        row = transaction.connection.execute(
            select(clients.c.client_id, clients.c.role).where(
                clients.c.project == project.namespace, clients.c.secret_hash == secret_hash
            )
        ).first()
    return (row.client_id, Role(row.role)) if row is not None else None


def _with_higher(roles: tuple[Role, ...]) -> frozenset[Role]:
    lowest = [_PEOPLE.index(role) for role in roles if role in _PEOPLE]
    higher = _PEOPLE[min(lowest) :] if lowest else ()
    return frozenset({*roles, *higher})


def _hash(token: str) -> str:
    # Tokens are 256 random bits: a plain hash is enough, a slow one would protect nothing more.
    return hashlib.sha256(token.encode()).hexdigest()
