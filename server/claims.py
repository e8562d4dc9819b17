"""Claims on physical tables: (snapshot name, version) is written by one plan or run at a time.

A claim lives as long as its executor renews the leases of its evaluations, and goes when its owner has nothing in
flight on the table. A claim that is held has no lease: it lives until its owner is over (`server.holding`). Whoever
locks a claim and a record locks the claim first.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnCollection,
    ColumnElement,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert

from server.database import Transaction
from server.parking import WAITING_RUN
from server.schema import claims, evaluations
from tcloud.wire.executions import Execution, OwnerKind, SnapshotRef
from tcloud.wire.statuses import Status

__all__ = [
    "HeldByOthers",
    "TableClaim",
    "claim_table",
    "hold_tables",
    "let_go",
    "lock_claims",
    "release_idle_claims",
    "release_table",
]

_NEVER: ColumnElement[Any] = literal_column("'infinity'::timestamptz")


class TableClaim(NamedTuple):
    """What came of asking for a physical table."""

    holder: str | None = None
    """The plan or run that has it; None if it is the asker's now."""
    waiting_run: str | None = None
    """The run that waits for it."""


class HeldByOthers(NamedTuple):
    """A claim that stands in the way of one who wants to hold the table."""

    owner_kind: str
    owner_id: str
    model: str
    version: str
    is_held: bool
    """It has no lease either: only its owner's end, or its letting go, ends it."""


def claim_table(transaction: Transaction, execution: Execution, snapshot: SnapshotRef, expires: datetime) -> TableClaim:
    """Claims the physical table if it is free, its claim is over, or the owner has it already."""
    project = transaction.project.namespace
    version = snapshot.version or ""
    parameters = {
        "project": project,
        "model": snapshot.name,
        "version": version,
        "owner_kind": execution.owner_kind.value,
        "owner_id": execution.owner_id,
        "lease_expires_at": expires,
        "p_project": project,
        "p_model": snapshot.name,
        "p_version": version,
    }
    claimed = transaction.connection.execute(_CLAIM, parameters).first()
    if claimed is not None:
        return TableClaim(waiting_run=claimed.waiting_run)
    row = transaction.connection.execute(
        select(claims.c.owner_kind, claims.c.owner_id).where(
            claims.c.project == project, claims.c.model == snapshot.name, claims.c.version == version
        )
    ).first()
    return TableClaim(holder=f"{row.owner_kind} {row.owner_id}" if row is not None else "another plan or run")


def hold_tables(
    transaction: Transaction, owner_kind: OwnerKind, owner_id: str, tables: Iterable[tuple[str, str]]
) -> list[HeldByOthers]:
    """Claims physical tables, by name and version, without a lease: those that are free, and those that become so.

    Returns:
        The others that have some of them.
    """
    project = transaction.project.namespace
    # One order for all who lock several.
    wanted = sorted(tables)
    values = [
        {
            "project": project,
            "model": model,
            "version": version,
            "owner_kind": owner_kind.value,
            "owner_id": owner_id,
            "lease_expires_at": _NEVER,
            "is_held": True,
        }
        for model, version in wanted
    ]
    taken = ("owner_kind", "owner_id", "lease_expires_at", "is_held")
    statement = insert(claims).values(values)
    transaction.connection.execute(
        statement.on_conflict_do_update(
            index_elements=["project", "model", "version"],
            set_={column: statement.excluded[column] for column in taken},
            where=_may_take(statement.excluded),
        )
    )
    others = transaction.connection.execute(
        select(claims.c.owner_kind, claims.c.owner_id, claims.c.model, claims.c.version, claims.c.is_held)
        .where(
            claims.c.project == project,
            tuple_(claims.c.model, claims.c.version).in_(wanted),
            claims.c.owner_id != owner_id,
        )
        .order_by(claims.c.model, claims.c.version)
    )
    return [HeldByOthers(*row) for row in others]


def let_go(transaction: Transaction, owner_id: str) -> None:
    """Ends what an owner holds."""
    transaction.connection.execute(
        delete(claims).where(
            claims.c.project == transaction.project.namespace, claims.c.owner_id == owner_id, claims.c.is_held
        )
    )


def lock_claims(transaction: Transaction, owner_id: str) -> None:
    """Locks all claims of an owner, before any of its records, in the order of all who lock several."""
    transaction.connection.execute(
        select(claims.c.model)
        .where(claims.c.project == transaction.project.namespace, claims.c.owner_id == owner_id)
        .order_by(claims.c.model, claims.c.version)
        .with_for_update()
    ).all()


def release_table(transaction: Transaction, owner_id: str, model: str, version: str) -> str | None:
    """Releases a claim once its owner has nothing in flight on the table; returns the run that waits for it."""
    parameters = {
        "p_project": transaction.project.namespace,
        "p_owner": owner_id,
        "p_model": model,
        "p_version": version,
    }
    waiting: str | None = transaction.connection.execute(_RELEASE, parameters).scalar()
    return waiting


def release_idle_claims(transaction: Transaction, owner_id: str) -> None:
    """Releases all claims of an owner on tables where it has nothing in flight."""
    parameters = {"p_project": transaction.project.namespace, "p_owner": owner_id}
    transaction.connection.execute(_RELEASE_IDLE, parameters)


def _may_take(asker: ColumnCollection[str, ColumnElement[Any]]) -> ColumnElement[bool]:
    """Whether a claim is the asker's already, or over."""
    return or_(claims.c.owner_id == asker["owner_id"], claims.c.lease_expires_at < func.now())


# Built once, because every unit passes here: see `server.unit_records`.
_insert = insert(claims)
_CLAIM = _insert.on_conflict_do_update(
    index_elements=["project", "model", "version"],
    set_={
        "owner_kind": _insert.excluded.owner_kind,
        "owner_id": _insert.excluded.owner_id,
        "lease_expires_at": _insert.excluded.lease_expires_at,
    },
    where=_may_take(_insert.excluded),
).returning(WAITING_RUN.scalar_subquery().label("waiting_run"))

_RELEASE_IDLE = delete(claims).where(
    claims.c.project == bindparam("p_project"),
    claims.c.owner_id == bindparam("p_owner"),
    ~claims.c.is_held,
    ~exists()
    .where(
        evaluations.c.project == claims.c.project,
        evaluations.c.owner_id == claims.c.owner_id,
        evaluations.c.model == claims.c.model,
        evaluations.c.version == claims.c.version,
        evaluations.c.status == Status.IN_PROGRESS.value,
    )
    .correlate(claims),
)
_RELEASE = _RELEASE_IDLE.where(
    claims.c.model == bindparam("p_model"), claims.c.version == bindparam("p_version")
).returning(WAITING_RUN.scalar_subquery())
