"""Empty databases on a server of the embedded PostgreSQL."""

from contextlib import closing

import psycopg2
from psycopg2 import sql

from stack.postgres import Postgres

__all__ = ["recreate"]


def recreate(server: Postgres, database: str) -> None:
    """Makes the database empty, whether it exists or not; who is connected to it is cut off."""
    with closing(psycopg2.connect(server.dsn("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
    server.create_database(database)
