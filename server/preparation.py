"""What has to be true of the database before the server serves: migrated records, migrated state, clients."""

from collections.abc import Sequence
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, select, text
from sqlmesh.core.state_sync.base import SCHEMA_VERSION

from server.audit_log import BY_ITSELF
from server.database import Database, Transaction
from server.errors import ApiError
from server.grants import give_role, grant_roles_of_settings
from server.housekeeping import lock_against_plans
from server.identities import register_identity
from server.projects import Project, Role
from server.schema import SCHEMA, grants, identities
from server.settings import ClientSettings

__all__ = ["MigrationRefusedError", "prepare"]

_log = structlog.get_logger(__name__)
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_KEY = 7_263_548_112
"""Of PostgreSQL's advisory lock: servers that start together migrate one after another."""


class MigrationRefusedError(Exception):
    """A project's state is not migrated, because something is at work with it."""


def prepare(
    database: Database, projects: Sequence[Project], clients: list[ClientSettings], *, beside_work: bool = False
) -> None:
    """Migrates the server's records and each project's SQLMesh state, and makes the clients of the settings.

    Args:
        database: The server's.
        projects: Whose state is migrated.
        clients: Who exists from the start.
        beside_work: Whether state is migrated even while plans, runs or the janitor are recorded as being at work.

    Raises:
        sqlalchemy.exc.OperationalError: If PostgreSQL cannot be reached.
        SQLMeshError: If a project's state is of a newer SQLMesh than this server's.
        MigrationRefusedError: If a project's state has to be migrated, but something is at work with it.
    """
    with database.engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        _migrate_records(connection)
    for project in projects:
        with database.transaction(project) as transaction:
            transaction.connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            found = transaction.state.get_versions(validate=False).schema_version
            if found != SCHEMA_VERSION:
                if found and not beside_work:
                    _refuse_beside_work(transaction)
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


def _refuse_beside_work(transaction: Transaction) -> None:
    try:
        lock_against_plans(transaction)
    except ApiError as error:
        what = error.message.removesuffix("Try again after that.").strip()
        raise MigrationRefusedError(
            f"The state of {transaction.project.namespace} has to be migrated to this SQLMesh's schema, but: {what} "
            "Start the version before this one again and let it finish; `tcloud environments pause` keeps further "
            "runs from starting."
        ) from error


def _migrate_records(connection: Connection) -> None:
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
