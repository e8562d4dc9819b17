"""The audit log: who did what to a project, and when."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

__all__ = ["AuditEntry"]


class AuditEntry(BaseModel):
    """One entry; entries are only ever added."""

    entry_id: int
    at: datetime
    actor: str
    """The client, or `tempomesh` for what happened by itself."""
    action: str
    """What was done, such as `environment.pause`."""
    subject: str
    """To what: an environment, for one."""
    details: dict[str, Any] = {}
    allowed: bool = True
    """Whether it was done; the details of what was not allowed say what would have been needed."""
    address: str | None = None
    """Where the call came from."""
