"""Grants: what identities may do in a project."""

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection, delete, insert, select

from server.database import Database
from server.projects import Project, Role
from server.schema import grants
from server.settings import ClientSettings

__all__ = ["KnownGrants", "grant_roles_of_settings"]

_BY_SETTINGS = "settings"


class KnownGrants:
    """Looks up what identities are granted, and remembers it.

    Args:
        database: Where grants are.
    """

    def __init__(self, database: Database):
        self._database = database
        self._known: dict[tuple[Project, str], frozenset[Role]] = {}

    async def roles(self, project: Project, identity_id: str) -> frozenset[Role]:
        """The roles of an identity in a project; none if it has no business there."""
        key = (project, identity_id)
        if key not in self._known:
            self._known[key] = await run_in_threadpool(self._roles, project, identity_id)
        return self._known[key]

    def _roles(self, project: Project, identity_id: str) -> frozenset[Role]:
        with self._database.engine.connect() as connection:
            rows = connection.execute(
                select(grants.c.role).where(
                    grants.c.project == project.namespace,
                    grants.c.identity_id == identity_id,
                    grants.c.role.is_not(None),
                )
            )
            return frozenset(Role(row.role) for row in rows)


def grant_roles_of_settings(connection: Connection, project: Project, client: ClientSettings) -> None:
    """Gives a client in a project the role that the settings name, in place of the one they named before."""
    mine = {"project": project.namespace, "identity_id": client.client_id, "created_by": _BY_SETTINGS}
    connection.execute(delete(grants).where(*(grants.c[name] == value for name, value in mine.items())))
    connection.execute(insert(grants).values(role=client.role.value, **mine))
