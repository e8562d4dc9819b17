"""What was not allowed: an answer to whoever tried, and an entry in the audit log."""

import time

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from server.audit_log import add_entry
from server.database import Database
from server.errors import ApiError
from server.projects import Project

__all__ = ["Denials", "DeniedError"]

_log = structlog.get_logger(__name__)
_ONCE_IN_SECONDS = 60.0
_MOST_REMEMBERED = 10_000


class DeniedError(ApiError):
    """An answer to somebody who is known, and not allowed.

    Args:
        message: What, where, and what to do.
        project: In which project.
        identity_id: Whom it is denied.
        doing: What they tried, as the audit log calls it.
        subject: To what.
        details: What would have been needed.
    """

    def __init__(
        self,
        message: str,
        *,
        project: Project,
        identity_id: str,
        doing: str,
        subject: str,
        details: dict[str, object],
    ):
        super().__init__(403, "TM-ROLE", message)
        self.project = project
        self.identity_id = identity_id
        self.doing = doing
        self.subject = subject
        self.details = details


class Denials:
    """Writes denials into the audit log, the same one once a minute: a script that tries again must not fill it.

    Args:
        database: Where the audit log is.
    """

    def __init__(self, database: Database):
        self._database = database
        self._recent: dict[tuple[Project, str, str, str, str], float] = {}

    async def record(self, denied: DeniedError) -> None:
        """Writes one; a database that is away keeps nobody from being denied."""
        key = (denied.project, denied.identity_id, denied.doing, denied.subject, str(denied.details))
        now = time.monotonic()
        if now - self._recent.get(key, -_ONCE_IN_SECONDS) < _ONCE_IN_SECONDS:
            return
        if len(self._recent) >= _MOST_REMEMBERED:
            self._recent.clear()
        self._recent[key] = now
        _log.warning("denied", by=denied.identity_id, doing=denied.doing, subject=denied.subject, **denied.details)
        try:
            await run_in_threadpool(self._add, denied)
        except SQLAlchemyError as error:
            del self._recent[key]
            _log.error("denial_not_recorded", by=denied.identity_id, error=str(error).splitlines()[0])

    def _add(self, denied: DeniedError) -> None:
        with self._database.transaction(denied.project) as transaction:
            add_entry(transaction, denied.identity_id, denied.doing, denied.subject, denied.details, allowed=False)
