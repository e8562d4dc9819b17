"""The audit log, to be read by those who manage the project; nothing in the API changes an entry."""

from typing import Annotated

from fastapi import APIRouter, Query

from server.api.dependencies import Manager
from server.audit_log import entries
from tcloud.wire.audit_log import AuditEntry

__all__ = ["router"]

router = APIRouter(tags=["audit log"])


@router.get("/audit-log", summary="Who did what, newest first")
def audit_log(
    access: Manager,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    allowed: bool | None = None,
    before: int | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> list[AuditEntry]:
    """All filters that are given have to hold; `before` is the id of the last entry of a page."""
    with access.database.transaction(access.project) as transaction:
        return entries(
            transaction, actor=actor, action=action, subject=subject, allowed=allowed, before=before, limit=limit
        )
