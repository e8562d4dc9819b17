"""What the server does by itself again and again, project by project."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import anyio
import structlog

from server.errors import ApiError
from server.projects import Project

__all__ = ["keep_doing"]

_log = structlog.get_logger(__name__)


async def keep_doing(
    do: Callable[[Project], Awaitable[None]], projects: Iterable[Project], *, every: timedelta, failed: str
) -> None:
    """Does something for each project, now and every so often, until it is cancelled.

    Args:
        do: What is done. Whatever goes wrong with it, the server serves on, and the next round may fare better.
        projects: For whom.
        every: How long it waits between two rounds.
        failed: The event that is logged where it was not done.
    """
    projects = sorted(projects, key=lambda project: project.namespace)
    while True:
        for project in projects:
            try:
                await do(project)
            except ApiError as error:
                _log.warning(failed, project=project.namespace, reason=error.message)
            except Exception:
                _log.exception(failed, project=project.namespace)
        await anyio.sleep(every.total_seconds())
