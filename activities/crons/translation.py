"""A cron as the spec of a Temporal schedule.

Every instant of croniter's is a tick of Temporal's. There are no other ticks but in three cases: `R` (croniter draws a
value anew each time, here it is every value), zones whose changes of the clocks Temporal gets wrong (`ClockChanges`),
and zones whose changes follow no rule of weekdays. A tick with nothing due costs nothing, a missing one costs an
interval.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

from temporalio.client import ScheduleCalendarSpec, ScheduleSpec

from activities.crons.clock_changes import Gap, clock_changes
from activities.crons.days import ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, ALL_YEARS, Days, days_of
from activities.crons.ranges import as_ranges
from activities.crons.reading import Cron, read_cron, zone_of

__all__ = ["schedule_spec"]

_UTC = "UTC"
_MINUTE = timedelta(minutes=1)
_MINUTES_OF_AN_HOUR, _MINUTES_OF_A_DAY = 60, 24 * 60
_MAY_BE_LAST = frozenset({28, 29, 30, 31})


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
    calendars: list[ScheduleCalendarSpec] = []
    if changes.zone_name:
        calendars += [_calendar(on, read.seconds, *times) for on in days for times in _times(_minutes_of_day(read))]
    else:
        # Around such changes Temporal's local times are wrong: in UTC, the cron ticks once for each offset.
        for offset in changes.offsets:
            calendars += _in_utc(read, days, offset)
    for gap in changes.gaps:
        if not read.skips_missing_hours:
            calendars += _after_gap(read, days, gap, is_utc=changes.zone_name is None)
        if changes.zone_name and gap.hides_weekday:
            calendars += _whatever_weekday(read, days, gap)
    return ScheduleSpec(calendars=calendars, time_zone_name=changes.zone_name or _UTC)


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
    on: Days, seconds: frozenset[int], hours: frozenset[int], minutes: frozenset[int]
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
    )


def _after_gap(cron: Cron, days: list[Days], gap: Gap, *, is_utc: bool) -> Iterator[ScheduleCalendarSpec]:
    if _minutes_of_day(cron).isdisjoint(gap.skipped):
        return
    for on in days:
        if not on & gap.on:
            continue
        if is_utc:
            end, end_on = gap.utc_end, replace(gap.utc_end_on, years=_with_neighbours(on.years))
        elif gap.hides_weekday:
            end, end_on = gap.end, replace(gap.end_on, weekdays=ALL_WEEKDAYS)
        else:
            shift = 0 if gap.end_on == gap.on else 1
            end, end_on = gap.end, _shifted(on & gap.on, shift) & replace(gap.end_on, years=on.years)
        yield _calendar(end_on, cron.seconds, *_only(end))


def _whatever_weekday(cron: Cron, days: list[Days], gap: Gap) -> Iterator[ScheduleCalendarSpec]:
    for on in days:
        if on.weekdays != ALL_WEEKDAYS and on & gap.on:
            for times in _times(_minutes_of_day(cron)):
                yield _calendar(replace(on & gap.on, weekdays=ALL_WEEKDAYS), cron.seconds, *times)


def _only(at: time) -> tuple[frozenset[int], frozenset[int]]:
    return frozenset({at.hour}), frozenset({at.minute})


def _in_utc(cron: Cron, days: list[Days], offset: timedelta) -> Iterator[ScheduleCalendarSpec]:
    by_shift: dict[int, set[int]] = defaultdict(set)
    for minute in _minutes_of_day(cron):
        shift, of_day = divmod(minute - offset // _MINUTE, _MINUTES_OF_A_DAY)
        by_shift[shift].add(of_day)
    for shift, minutes in sorted(by_shift.items()):
        for on in days:
            for times in _times(minutes):
                yield _calendar(_shifted(on, shift), cron.seconds, *times)


def _shifted(on: Days, shift: int) -> Days:
    """The days before or after; more than these where that may be another month."""
    match shift:
        case -1:
            crosses = 1 in on.days
            days = {day - 1 for day in on.days if day > 1} | (_MAY_BE_LAST if crosses else frozenset())
        case 1:
            crosses = not on.days.isdisjoint(_MAY_BE_LAST)
            days = {day + 1 for day in on.days if day < max(ALL_DAYS)} | ({1} if crosses else set())
        case _:
            return on
    return Days(
        days=frozenset(days),
        weekdays=frozenset((weekday + shift) % len(ALL_WEEKDAYS) for weekday in on.weekdays),
        months=on.months | {(month - 1 + shift) % len(ALL_MONTHS) + 1 for month in on.months} if crosses else on.months,
        years=_with_neighbours(on.years) if crosses else on.years,
    )


def _with_neighbours(years: frozenset[int]) -> frozenset[int]:
    return ALL_YEARS & {year + step for year in years for step in (-1, 0, 1)}
