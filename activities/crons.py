"""From the crons that SQLMesh accepts to the schedules that Temporal understands.

SQLMesh reads crons with croniter, so croniter's own parse is what is translated. Where Temporal cannot say the
same, its ticks are a superset: a tick with nothing due costs nothing, a tick that is missing costs an interval.
"""

from collections.abc import Sequence
from typing import cast

from croniter import croniter
from croniter.croniter import CroniterError
from temporalio.client import ScheduleCalendarSpec, ScheduleRange, ScheduleSpec

__all__ = ["CronNotTranslatableError", "schedule_spec"]

Field = Sequence[int | str]
"""The values of one field of a cron as croniter expands them."""

_ANY = "*"
_LAST_DAY = "l"
_SUNDAY_AS_SEVEN = 7
_DAYS_THAT_MAY_BE_LAST = (28, 29, 30, 31)
_SECONDS_FIELD = 5


class CronNotTranslatableError(ValueError):
    """The cron is none that croniter, and so SQLMesh, understands."""


def schedule_spec(cron: str, timezone: str) -> ScheduleSpec:
    """Translates a cron into a schedule whose ticks are croniter's instants or a superset of them.

    Day-of-month together with day-of-week is OR in croniter and AND in Temporal: that becomes two calendars.
    `L` becomes the days that may be a month's last, `#` and `L` of a weekday become every such weekday.

    Args:
        cron: Five or six fields (the sixth is seconds), or an alias such as `@daily`.
        timezone: An IANA name; the cron's instants are local times there.

    Raises:
        CronNotTranslatableError: If the cron or the timezone is not valid.
    """
    try:
        expanded, _ = croniter.expand(cron)
    except (CroniterError, ValueError) as error:
        raise CronNotTranslatableError(f"Cron '{cron}' cannot be scheduled: {error}.") from error
    fields = cast(list[Field], expanded)
    minutes, hours, days, months, weekdays = fields[:_SECONDS_FIELD]
    seconds = fields[_SECONDS_FIELD] if len(fields) > _SECONDS_FIELD else [0]
    any_day, any_weekday = [_ANY], [_ANY]
    restrictions = (
        [(days, any_weekday), (any_day, weekdays)]
        if _is_restricted(days) and _is_restricted(weekdays)
        else [(days, weekdays)]
    )
    return ScheduleSpec(
        calendars=[
            ScheduleCalendarSpec(
                second=_ranges(seconds, 0, 59),
                minute=_ranges(minutes, 0, 59),
                hour=_ranges(hours, 0, 23),
                day_of_month=_ranges(_possible_days(days), 1, 31),
                month=_ranges(months, 1, 12),
                day_of_week=_ranges(_weekdays(weekdays), 0, 6),
            )
            for days, weekdays in restrictions
        ],
        time_zone_name=timezone,
    )


def _is_restricted(field: Field) -> bool:
    return list(field) != [_ANY]


def _possible_days(days: Field) -> Field:
    named = {day for day in days if day not in (_LAST_DAY, _ANY)}
    if _LAST_DAY in days:
        named.update(_DAYS_THAT_MAY_BE_LAST)
    return sorted(named, key=int) or [_ANY]


def _weekdays(weekdays: Field) -> Field:
    if not _is_restricted(weekdays):
        return weekdays
    # A named nth weekday arrives as the weekday itself (its number is kept apart), the last one as `l5`.
    return sorted({int(str(day).lstrip(_LAST_DAY)) % _SUNDAY_AS_SEVEN for day in weekdays})


def _ranges(field: Field, lowest: int, highest: int) -> list[ScheduleRange]:
    if not _is_restricted(field):
        return [ScheduleRange(lowest, highest)]
    return [ScheduleRange(int(value)) for value in field]
