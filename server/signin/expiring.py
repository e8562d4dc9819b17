"""What signing in leaves behind, deleted after its end."""

from datetime import timedelta

import anyio
import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import delete, func
from sqlalchemy.exc import OperationalError

from server.database import Database
from server.signin.tables import authorization_codes, browser_sessions, device_codes, revoked_tokens, sign_ins

__all__ = ["forget_expired", "keep_forgetting"]

_log = structlog.get_logger(__name__)
_INTERVAL_SECONDS = 3600.0
_KEPT = timedelta(hours=1)


async def keep_forgetting(database: Database) -> None:
    """Deletes what has come to its end, again and again."""
    while True:
        await anyio.sleep(_INTERVAL_SECONDS)
        try:
            await run_in_threadpool(forget_expired, database)
        except OperationalError as error:
            _log.warning("nothing_forgotten", error=str(error).splitlines()[0])


def forget_expired(database: Database) -> None:
    """Deletes sign-ins, codes, revocations and sessions that have come to their end."""
    with database.engine.begin() as connection:
        for table in (sign_ins, revoked_tokens, authorization_codes, device_codes, browser_sessions):
            connection.execute(delete(table).where(table.c.expires_at < func.now() - _KEPT))
