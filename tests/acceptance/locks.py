"""Locks of PostgreSQL that models, statements and triggers of a test wait for."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2

from tests.fixtures.records import Records
from tests.fixtures.stack import RunningStack

__all__ = ["held_up", "waiting"]


@contextmanager
def held_up(stack: RunningStack, lock: int, database: str = "warehouse") -> Iterator[None]:
    """Whatever waits for the lock in a database goes on only afterwards."""
    dsn = stack.warehouse_dsn.replace("/warehouse?", f"/{database}?")
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lock,))
        yield


def waiting(stack: RunningStack, lock: int) -> int:
    """How many wait for the lock, in all databases together."""
    query = f"SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {lock} AND NOT granted"
    return int(Records(stack).ask("warehouse", query)[0][0])
