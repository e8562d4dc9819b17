"""A cron as the spec of a Temporal schedule.

Every instant of croniter's is a tick of Temporal's. There are no other ticks but in three cases: `R` (croniter draws a
value anew each time, here it is every value); the days around a change of the clocks in zones where Temporal gets it
wrong (`ClockChanges`), as most do east of Greenwich; and zones whose changes follow no rule. A tick with nothing due
costs nothing, a missing one costs an interval.

In the zones that Temporal gets wrong, a cron is said in UTC: for each offset that occurs, on the days on which it may.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from datetime import timezone as fixed_timezone

from temporalio.client import ScheduleCalendarSpec, ScheduleSpec

from activities.crons.clock_changes import Gap, clock_changes
from activities.crons.days import ALL_WEEKDAYS, ALL_YEARS, Days, days_of, shifted
from activities.crons.ranges import as_ranges
from activities.crons.reading import Cron, read_cron, zone_of

__all__ = ["schedule_spec"]

_UTC = "UTC"
_FOR_SKIPPED = "in place of times that the clock skips"
_MINUTE = timedelta(minutes=1)
_MINUTES_OF_AN_HOUR, _MINUTES_OF_A_DAY = 60, 24 * 60


def schedule_spec(cron: str, timezone: str) -> ScheduleSpec:
    """Translates a cron; a spec without calendars never ticks.

    Local times that do not exist are skipped by Temporal. Croniter takes the first one that does exist instead, unless
    the cron is of every hour: there the spec has a calendar of its own, for the days of the change.

    Args:
        cron: Five to seven fields (the sixth is seconds, the seventh years), or an alias such as `@daily`.
        timezone: An IANA name; the cron's instants are local times there.

    Raises:
        CronNotTranslatableError: If the cron or the timezone is not valid.
    """
    read = read_cron(cron)
    days = days_of(read)
    changes = clock_changes(zone_of(timezone), datetime.now(UTC).year)
    is_local = changes.are_right_in_temporal
    if is_local:
        calendars = [_calendar(on, read.seconds, *times) for on in days for times in _times(_minutes_of_day(read))]
    else:
        calendars = [calendar for offset, when in changes.offsets for calendar in _in_utc(read, days, offset, when)]
    if not read.skips_missing_hours:
        calendars += [calendar for gap in changes.gaps for calendar in _after_gap(read, days, gap, is_local=is_local)]
    return ScheduleSpec(calendars=calendars, time_zone_name=timezone if is_local else _UTC)


def _minutes_of_day(cron: Cron) -> frozenset[int]:
    hours = range(24) if cron.hours is None else cron.hours
    minutes = range(_MINUTES_OF_AN_HOUR) if cron.minutes is None else cron.minutes
    return frozenset(hour * _MINUTES_OF_AN_HOUR + minute for hour in hours for minute in minutes)


def _times(minutes_of_day: Iterable[int]) -> Iterator[tuple[frozenset[int], frozenset[int]]]:
    """Groups times of the day into hours with the same minutes."""
    by_hour: dict[int, set[int]] = defaultdict(set)
    for minute in minutes_of_day:
        by_hour[minute // _MINUTES_OF_AN_HOUR].add(minute % _MINUTES_OF_AN_HOUR)
    by_minutes: dict[frozenset[int], set[int]] = defaultdict(set)
    for hour in sorted(by_hour):
        by_minutes[frozenset(by_hour[hour])].add(hour)
    for minutes, hours in by_minutes.items():
        yield frozenset(hours), minutes


def _calendar(
    on: Days, seconds: frozenset[int], hours: frozenset[int], minutes: frozenset[int], comment: str | None = None
) -> ScheduleCalendarSpec:
    return ScheduleCalendarSpec(
        second=as_ranges(seconds),
        minute=as_ranges(minutes),
        hour=as_ranges(hours),
        day_of_month=as_ranges(on.days),
        month=as_ranges(on.months),
        # To Temporal, no years are all years.
        year=[] if on.years == ALL_YEARS else as_ranges(on.years),
        day_of_week=as_ranges(on.weekdays),
        comment=comment,
    )


def _after_gap(cron: Cron, days: list[Days], gap: Gap, *, is_local: bool) -> Iterator[ScheduleCalendarSpec]:
    if _minutes_of_day(cron).isdisjoint(gap.skipped):
        return
    end, end_on = (gap.end, gap.end_on) if is_local else (gap.utc_end, gap.utc_end_on)
    shift = _shift(gap.on, end_on)
    for on in days:
        for after in shifted(on & gap.on, shift):
            if after & end_on:
                yield _calendar(
                    after & end_on, cron.seconds, frozenset({end.hour}), frozenset({end.minute}), _FOR_SKIPPED
                )


def _shift(before: Days, after: Days) -> int:
    """Of one weekday to another, by a day at most."""
    (first,), (second,) = before.weekdays, after.weekdays
    return (second - first + 1) % len(ALL_WEEKDAYS) - 1


def _in_utc(cron: Cron, days: list[Days], offset: timedelta, when: Iterable[Days]) -> Iterator[ScheduleCalendarSpec]:
    by_shift: dict[int, set[int]] = defaultdict(set)
    for minute in _minutes_of_day(cron):
        shift, of_day = divmod(minute - offset // _MINUTE, _MINUTES_OF_A_DAY)
        by_shift[shift].add(of_day)
    comment = str(fixed_timezone(offset))
    for shift, minutes in sorted(by_shift.items()):
        found = dict.fromkeys(moved & period for on in days for moved in shifted(on, shift) for period in when)
        for on in found:
            if on:
                for times in _times(minutes):
                    yield _calendar(on, cron.seconds, *times, comment)
