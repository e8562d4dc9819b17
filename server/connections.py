"""The vault: connections of gateways, sealed; the server hands them to executors and opens none."""

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import structlog
from pydantic import SecretStr
from sqlalchemy import Row, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from server.audit_log import add_entry
from server.database import Transaction
from server.documents import DocumentKind, find_document
from server.errors import ApiError
from server.executors import live_executors
from server.queries import forget_documents
from server.schema import connection_candidates, connections
from server.sealing import KeyRing, SealingError
from tcloud.wire.connections import Connection, SealedConnection, SealedConnections
from tcloud.wire.executors import Gateway
from tcloud.wire.queries import Query, QueryRequest
from tcloud.wire.statuses import Status
from vault.envelopes import new_data_key, seal_envelope

__all__ = [
    "IS_CANDIDATE",
    "Vault",
    "all_connections",
    "key_bound_to",
    "delete_connection",
    "expire_candidates",
    "forget_candidate",
    "one_connection",
    "settle_candidate",
    "vault_name",
]

_log = structlog.get_logger(__name__)
IS_CANDIDATE = "is_candidate"
"""Argument of a test: whether the connection is one that is to be kept."""

_TESTED_WITHIN = timedelta(hours=1)
"""A candidate whose test has not ended by then is forgotten: nobody waits for it any more."""


class Vault:
    """Seals connections, and opens the keys of sealed ones for executors.

    Args:
        keys: The server's ring of keys.
    """

    def __init__(self, keys: KeyRing):
        self._keys = keys

    def put_candidate(self, transaction: Transaction, query_id: str, gateway: str, connection: dict[str, Any]) -> None:
        """Keeps a connection, sealed, for as long as it is being tested; the same query again changes nothing."""
        project = transaction.project.namespace
        data_key = new_data_key()
        statement = insert(connection_candidates).values(
            project=project,
            query_id=query_id,
            gateway=gateway,
            type=connection["type"],
            sealed=seal_envelope(connection, data_key, project=project, gateway=gateway),
            sealed_key=self._keys.seal(data_key, bound_to=key_bound_to(project, gateway)),
        )
        transaction.connection.execute(statement.on_conflict_do_nothing())

    def to_test(self, transaction: Transaction, query: QueryRequest) -> SealedConnection:
        """The connection that a query is to test: its candidate, or the one that the gateway has.

        Raises:
            ApiError: 404 if it is not there any more, 409 if its key has left the server's ring.
        """
        try:
            if not query.arguments[IS_CANDIDATE]:
                return self._sealed(_row(transaction, query.gateway))
            return self._sealed(_candidate(transaction, query.query_id), revision="")
        except SealingError as error:
            raise ApiError(
                409,
                "TM-CONNECTION",
                f"The connection of gateway '{query.gateway}' is not unsealed: {error}. See the setting SECRET_KEYS.",
            ) from error

    def all_sealed(self, transaction: Transaction) -> SealedConnections:
        """All connections of a project, with what opens them; without those whose key has left the ring."""
        found = []
        for row in _rows(transaction):
            try:
                found.append(self._sealed(row))
            except SealingError as error:
                _log.error("connection_not_unsealed", gateway=row.gateway, reason=str(error))
        return SealedConnections(known=vault_name(transaction), connections=found)

    def _sealed(self, row: Row[Any], revision: str | None = None) -> SealedConnection:
        data_key = self._keys.unseal(row.sealed_key, bound_to=key_bound_to(row.project, row.gateway))
        return SealedConnection(
            gateway=row.gateway,
            type=row.type,
            revision=row.revision if revision is None else revision,
            sealed=base64.b64encode(row.sealed).decode(),
            data_key=SecretStr(base64.b64encode(data_key).decode()),
        )


def key_bound_to(project: str, gateway: str) -> str:
    """What the key of a connection is sealed for."""
    return f"connection {project} {gateway}"


def vault_name(transaction: Transaction) -> str:
    """A name for what is in a project's vault: another one whenever something is added, changed or deleted."""
    revisions = transaction.connection.execute(
        select(connections.c.revision)
        .where(connections.c.project == transaction.project.namespace)
        .order_by(connections.c.created_at, connections.c.gateway)
    ).scalars()
    return hashlib.sha256("/".join(revisions).encode()).hexdigest()[:16]


def all_connections(transaction: Transaction) -> list[Connection]:
    """The connections of a project by gateway, without what is in them."""
    served = _served(transaction)
    return [_shown(row, served) for row in _rows(transaction)]


def one_connection(transaction: Transaction, gateway: str) -> Connection:
    """One connection, without what is in it.

    Raises:
        ApiError: 404 if there is none; it says so if executors bring one.
    """
    return _shown(_row(transaction, gateway), _served(transaction))


def delete_connection(transaction: Transaction, gateway: str) -> None:
    """Deletes a connection; executors forget it when they next report."""
    transaction.connection.execute(
        delete(connections).where(
            connections.c.project == transaction.project.namespace, connections.c.gateway == gateway
        )
    )


def settle_candidate(transaction: Transaction, query: Query) -> None:
    """Makes a connection whose test has ended one of the vault's, or forgets it; does nothing a second time."""
    project = transaction.project.namespace
    table = connection_candidates
    answer = find_document(transaction, DocumentKind.ANSWER, query.query_id)
    forget_documents(transaction, query.query_id)
    row = transaction.connection.execute(
        delete(table).where(table.c.project == project, table.c.query_id == query.query_id).returning(table)
    ).first()
    if row is None:
        return
    details = {"type": row.type, "query_id": query.query_id}
    if query.status is not Status.SUCCESS or answer is None:
        add_entry(transaction, query.created_by, "connection.refused", row.gateway, details, is_told_by_another=True)
        return
    found = Gateway.model_validate(json.loads(answer)["gateway"])
    values = {
        "type": row.type,
        "revision": uuid4().hex,
        "sealed": row.sealed,
        "sealed_key": row.sealed_key,
        "dialect": found.dialect,
        "default_catalog": found.default_catalog,
        "concurrent_tasks": found.concurrent_tasks,
        "changed_by": query.created_by,
        "changed_at": func.now(),
    }
    is_new = _find(transaction, row.gateway) is None
    statement = insert(connections).values(project=project, gateway=row.gateway, created_by=query.created_by, **values)
    transaction.connection.execute(statement.on_conflict_do_update(index_elements=["project", "gateway"], set_=values))
    action = "connection.add" if is_new else "connection.change"
    add_entry(transaction, query.created_by, action, row.gateway, details, is_told_by_another=True)
    _log.info("connection_kept", by=query.created_by, gateway=row.gateway, type=row.type)


def forget_candidate(transaction: Transaction, query_id: str) -> None:
    """Forgets a connection that nobody was asked to test."""
    table = connection_candidates
    transaction.connection.execute(
        delete(table).where(table.c.project == transaction.project.namespace, table.c.query_id == query_id)
    )


def expire_candidates(transaction: Transaction) -> None:
    """Forgets connections whose tests never ended."""
    table = connection_candidates
    transaction.connection.execute(
        delete(table).where(
            table.c.project == transaction.project.namespace, table.c.created_at < func.now() - _TESTED_WITHIN
        )
    )


def _rows(transaction: Transaction) -> list[Row[Any]]:
    # The oldest first: among the connections of an executor it is the default one.
    return list(
        transaction.connection.execute(
            select(connections)
            .where(connections.c.project == transaction.project.namespace)
            .order_by(connections.c.created_at, connections.c.gateway)
        )
    )


def _candidate(transaction: Transaction, query_id: str) -> Row[Any]:
    table = connection_candidates
    row = transaction.connection.execute(
        select(table).where(table.c.project == transaction.project.namespace, table.c.query_id == query_id)
    ).first()
    if row is None:
        raise ApiError(404, "TM-CONNECTION", "The connection was not tested within an hour: add it again.")
    return row


def _find(transaction: Transaction, gateway: str) -> Row[Any] | None:
    return next((row for row in _rows(transaction) if row.gateway == gateway), None)


def _row(transaction: Transaction, gateway: str) -> Row[Any]:
    row = _find(transaction, gateway)
    if row is not None:
        return row
    bringing = [
        executor.identity
        for executor in live_executors(transaction)
        if any(served.name == gateway and served.revision is None for served in executor.gateways)
    ]
    there = ", ".join(found.gateway for found in _rows(transaction)) or "none"
    why = f"{', '.join(bringing)} brings its own" if bringing else f"it has {there}"
    raise ApiError(404, "TM-CONNECTION", f"The vault has no connection for gateway '{gateway}': {why}.")


def _served(transaction: Transaction) -> dict[tuple[str, str | None], list[str]]:
    served: dict[tuple[str, str | None], list[str]] = {}
    for executor in live_executors(transaction):
        for gateway in executor.gateways:
            served.setdefault((gateway.name, gateway.revision), []).append(executor.identity)
    return served


def _shown(row: Row[Any], served: dict[tuple[str, str | None], list[str]]) -> Connection:
    shown = dict(row._mapping)
    return Connection.model_validate({**shown, "executors": served.get((row.gateway, row.revision), [])})
