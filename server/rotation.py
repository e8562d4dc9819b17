"""Seals again, with the newest key of the ring, whatever the server's database has sealed with an older one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, select, update

from server.connections import key_bound_to
from server.schema import connection_candidates, connections
from server.sealing import KeyRing, SealingError
from server.signin.signing import bound_to_key
from server.signin.tables import signing_keys

__all__ = ["SEALED_COLUMNS", "SealedColumn", "seal_again"]


@dataclass(frozen=True)
class SealedColumn:
    """A column of sealed texts."""

    table: Table
    column: str
    what: str
    """What it holds, for a person: `connections`."""
    bound_to: Callable[[Row[Any]], str]
    """What the text of a row is sealed for."""
    is_made_again: bool = False
    """Whether the server makes another one where it cannot read one."""


def _of_connection(row: Row[Any]) -> str:
    return key_bound_to(row.project, row.gateway)


SEALED_COLUMNS: Sequence[SealedColumn] = (
    SealedColumn(connections, "sealed_key", "connections", _of_connection),
    SealedColumn(connection_candidates, "sealed_key", "connections being tested", _of_connection),
    SealedColumn(
        signing_keys, "sealed_private_key", "keys of tokens", lambda row: bound_to_key(row.key_id), is_made_again=True
    ),
)
"""All columns of the server's database that are sealed with the ring of keys."""


def seal_again(connection: Connection, keys: KeyRing) -> dict[str, tuple[int, int]]:
    """Seals with the newest key what is sealed with another one; in the caller's transaction, all or nothing.

    Returns:
        What there is, with how many were sealed again, and of how many.

    Raises:
        SealingError: If something is sealed with a key that is not in the ring.
    """
    counts = {}
    for sealed in SEALED_COLUMNS:
        rows = connection.execute(select(sealed.table).with_for_update()).all()
        old = [row for row in rows if not keys.is_newest(row._mapping[sealed.column])]
        for row in old:
            bound = sealed.bound_to(row)
            try:
                opened = keys.unseal(row._mapping[sealed.column], bound_to=bound)
            except SealingError:
                if sealed.is_made_again:
                    continue
                raise
            text = keys.seal(opened, bound_to=bound)
            key = and_(*(column == row._mapping[column.name] for column in sealed.table.primary_key.columns))
            connection.execute(update(sealed.table).where(key).values({sealed.column: text}))
        counts[sealed.what] = (len(old), len(rows))
    return counts
