"""The audit log: who did what to a project; entries are added, in the transaction of what they tell, and stay."""

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime

from sqlalchemy import func, insert, select

from server.database import Transaction
from server.schema import audit_log
from tcloud.wire.audit_log import AuditEntry

__all__ = ["BY_ITSELF", "add_entry", "came_from", "entries", "last_times"]

BY_ITSELF = "tempomesh"
"""The actor of what nobody did."""

_address: ContextVar[str | None] = ContextVar("address", default=None)


def came_from(address: str | None) -> None:
    """Says where the request came from that is being served: entries that it leads to say so."""
    _address.set(address)


def add_entry(
    transaction: Transaction,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, object] | None = None,
    *,
    allowed: bool = True,
    is_told_by_another: bool = False,
) -> None:
    """Adds an entry.

    Args:
        transaction: The transaction of what is told.
        actor: The client's id, or `BY_ITSELF`.
        action: What was done, as in `environment.pause`.
        subject: To what.
        details: What else there is to say, as JSON.
        allowed: Whether it was done, or denied.
        is_told_by_another: Whether the request that leads to it is not the actor's, and its address not theirs.
    """
    transaction.connection.execute(
        insert(audit_log).values(
            project=transaction.project.namespace,
            actor=actor,
            action=action,
            subject=subject,
            details=dict(details or {}),
            allowed=allowed,
            address=None if actor == BY_ITSELF or is_told_by_another else _address.get(),
        )
    )


def entries(
    transaction: Transaction,
    *,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    allowed: bool | None = None,
    before: int | None = None,
    limit: int,
) -> list[AuditEntry]:
    """Entries, newest first; all filters that are given have to hold."""
    query = select(audit_log).where(audit_log.c.project == transaction.project.namespace)
    for column, wanted in (
        (audit_log.c.actor, actor),
        (audit_log.c.action, action),
        (audit_log.c.subject, subject),
        (audit_log.c.allowed, allowed),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if before is not None:
        query = query.where(audit_log.c.entry_id < before)
    rows = transaction.connection.execute(query.order_by(audit_log.c.entry_id.desc()).limit(limit))
    return [AuditEntry.model_validate(dict(row._mapping)) for row in rows]


def last_times(transaction: Transaction, action: str) -> dict[str, datetime]:
    """When something was last done, by its subject."""
    rows = transaction.connection.execute(
        select(audit_log.c.subject, func.max(audit_log.c.at).label("last"))
        .where(audit_log.c.project == transaction.project.namespace, audit_log.c.action == action, audit_log.c.allowed)
        .group_by(audit_log.c.subject)
    )
    return {row.subject: row.last for row in rows}
