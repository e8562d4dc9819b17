"""The instants of a cron, by croniter."""

from datetime import UTC, datetime

from croniter.croniter import CroniterBadDateError

from activities.crons.reading import croniter_at

__all__ = ["last_instant", "next_instant"]


def next_instant(cron: str, timezone: str, after: datetime) -> datetime | None:
    """The first instant after a moment; None if there is none, because its years are over or there is no such day.

    Raises:
        CronNotTranslatableError: If the cron or the timezone is not valid.
    """
    try:
        timestamp: float = croniter_at(cron, timezone, after).get_next(float)  # type: ignore[no-untyped-call]
    except CroniterBadDateError:
        return None
    return datetime.fromtimestamp(timestamp, UTC)


def last_instant(cron: str, timezone: str, before: datetime) -> datetime | None:
    """The last instant before a moment; None if there is none.

    Raises:
        CronNotTranslatableError: If the cron or the timezone is not valid.
    """
    try:
        timestamp: float = croniter_at(cron, timezone, before).get_prev(float)  # type: ignore[no-untyped-call]
    except CroniterBadDateError:
        return None
    return datetime.fromtimestamp(timestamp, UTC)
