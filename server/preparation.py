"""What has to be true of the database before the server serves: migrated records, migrated state, clients."""

from collections.abc import Sequence
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, select, text
from sqlmesh.core.state_sync.base import SCHEMA_VERSION

from server.accounts import give_role
from server.audit_log import BY_ITSELF
from server.database import Database
from server.grants import grant_roles_of_settings
from server.identities import register_identity
from server.projects import Project, Role
from server.schema import SCHEMA, grants, identities
from server.settings import ClientSettings

__all__ = ["prepare"]

_log = structlog.get_logger(__name__)
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_KEY = 7_263_548_112
"""Of PostgreSQL's advisory lock: servers that start together migrate one after another."""


def prepare(database: Database, projects: Sequence[Project], clients: list[ClientSettings]) -> None:
    """Migrates the server's records and each project's SQLMesh state, and makes the clients of the settings.

    Raises:
        sqlalchemy.exc.OperationalError: If PostgreSQL cannot be reached.
        SQLMeshError: If a project's state is of a newer SQLMesh than this server's.
    """
    with database.engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        _migrate_records(connection)
    for project in projects:
        with database.transaction(project) as transaction:
            transaction.connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            found = transaction.state.get_versions(validate=False).schema_version
            if found != SCHEMA_VERSION:
                _log.info("state_migration", project=project.namespace, found=found, wanted=SCHEMA_VERSION)
                transaction.state.migrate(skip_backup=found == 0)
            transaction.state.get_versions()
            for client in clients:
                register_identity(transaction.connection, client)
                grant_roles_of_settings(transaction.connection, project, client)
            _give_to_administrators(transaction.connection, project)


def _give_to_administrators(connection: Connection, project: Project) -> None:
    """A project that nobody administers, because it is new, is administered by those who administer the server."""
    has_admin = select(grants.c.grant_id).where(
        grants.c.project == project.namespace, grants.c.role == Role.ADMIN.value
    )
    if connection.execute(has_admin.limit(1)).first() is None:
        for identity_id in connection.execute(
            select(identities.c.identity_id).where(identities.c.is_administrator)
        ).scalars():
            give_role(connection, project, identity_id, Role.ADMIN, BY_ITSELF)


def _migrate_records(connection: Connection) -> None:
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
