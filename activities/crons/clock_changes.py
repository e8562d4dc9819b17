"""When the clocks of a timezone are changed, in the decades to come."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from activities.crons.days import Days

__all__ = ["ClockChanges", "Gap", "clock_changes"]

_YEARS = 30
"""A rule such as "the second Sunday of March" has shown all of its days after 28 years."""

_HOUR = timedelta(hours=1)
_SAME_CLOCK = ("Europe/London",)
"""Zones whose clocks are, or may be, those of zones that Temporal gets wrong."""

_DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Gap:
    """Local times that do not exist on some days, because the clock is put forward."""

    skipped: range
    """Minutes of the day."""
    on: Days
    end: time
    """The first local time that exists again."""
    end_on: Days
    utc_end: time
    utc_end_on: Days

    @property
    def hides_weekday(self) -> bool:
        """Whether it has midnight in it: Temporal, which asks midnight for its weekday, takes the day for another."""
        return 0 in self.skipped


@dataclass(frozen=True)
class ClockChanges:
    """The changes of one timezone."""

    zone_name: str | None
    """A zone with these very changes in which Temporal's ticks are right; None if there is none.

    They are where the clock is put by an hour, on the hour, and put back at the end of a summer time. Ireland, by law,
    has a winter time instead: there Temporal leaves out the hour that comes twice."""
    offsets: tuple[timedelta, ...]
    """All offsets from UTC that occur."""
    gaps: tuple[Gap, ...]


@lru_cache(maxsize=1024)
def clock_changes(zone: ZoneInfo, first_year: int) -> ClockChanges:
    """The changes of a timezone from the beginning of a year on.

    Changes with the same rule, a weekday of a month, are one gap. It covers the days between the earliest and the
    latest, and so is exact for all zones that have such rules.
    """
    changes = list(_changes(zone, first_year))
    first = datetime(first_year, 1, 1, tzinfo=UTC)
    offsets = {_offset(zone, first)}
    spans: dict[tuple[object, ...], list[_Span]] = defaultdict(list)
    for change in changes:
        offsets.add(change.after)
        for span in change.skipped():
            spans[span.rule].append(span)
    return ClockChanges(
        zone_name=_name_of_right_zone(zone, first_year, changes),
        offsets=tuple(sorted(offsets)),
        gaps=tuple(_gap(found) for _, found in sorted(spans.items(), key=lambda item: str(item[0]))),
    )


def _name_of_right_zone(zone: ZoneInfo, first_year: int, changes: list["_Change"]) -> str | None:
    if all(change.is_right for change in changes):
        return zone.key
    moments = [(change.at, change.after) for change in changes]
    for name in _SAME_CLOCK:
        others = list(_changes(ZoneInfo(name), first_year))
        if moments == [(change.at, change.after) for change in others] and all(change.is_right for change in others):
            return name
    return None


@dataclass(frozen=True)
class _Span:
    """A gap, as far as it is on one day."""

    day: date
    skipped: range
    end: datetime
    utc_end: datetime

    @property
    def rule(self) -> tuple[object, ...]:
        return (
            *_month_and_weekday(self.day),
            self.skipped,
            *_month_and_weekday(self.end),
            self.end.time(),
            *_month_and_weekday(self.utc_end),
            self.utc_end.time(),
        )


@dataclass(frozen=True)
class _Change:
    at: datetime
    before: timedelta
    after: timedelta
    is_to_standard: bool
    """Whether it ends a time that the zone itself calls a deviation."""

    @property
    def _from(self) -> datetime:
        return (self.at + self.before).replace(tzinfo=None)

    @property
    def _to(self) -> datetime:
        return (self.at + self.after).replace(tzinfo=None)

    @property
    def is_right(self) -> bool:
        shift = self.after - self.before
        is_whole_hour = abs(shift) == _HOUR and not self._from.minute and not self._from.second
        return is_whole_hour and (shift == _HOUR or self.is_to_standard)

    def skipped(self) -> Iterator[_Span]:
        day = self._from.date()
        while datetime.combine(day, time()) < self._to:
            midnight = datetime.combine(day, time())
            first = max(self._from - midnight, timedelta()) // timedelta(minutes=1)
            end = min((self._to - midnight) // timedelta(minutes=1), _DAY_MINUTES)
            if first < end:
                yield _Span(day, range(first, end), self._to, self.at.replace(tzinfo=None))
            day += timedelta(days=1)


def _changes(zone: ZoneInfo, first_year: int) -> Iterator[_Change]:
    at, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(first_year + _YEARS, 1, 1, tzinfo=UTC)
    step = timedelta(days=1)
    before = _offset(zone, at)
    while at < end:
        after = _offset(zone, at + step)
        if after != before:
            yield _Change(
                _moment(zone, at, at + step, before),
                before,
                after,
                is_to_standard=bool(at.astimezone(zone).dst()) and not (at + step).astimezone(zone).dst(),
            )
            before = after
        at += step


def _moment(zone: ZoneInfo, low: datetime, high: datetime, before: timedelta) -> datetime:
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
    return high


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 - of an aware time in a zone there is always one
    return offset


def _gap(spans: list[_Span]) -> Gap:
    first = spans[0]
    return Gap(
        skipped=first.skipped,
        on=_between([span.day for span in spans]),
        end=first.end.time(),
        end_on=_between([span.end.date() for span in spans]),
        utc_end=first.utc_end.time(),
        utc_end_on=_between([span.utc_end.date() for span in spans]),
    )


def _between(days: list[date]) -> Days:
    numbers = [day.day for day in days]
    month, weekday = _month_and_weekday(days[0])
    return Days(
        days=frozenset(range(min(numbers), max(numbers) + 1)),
        weekdays=frozenset({weekday}),
        months=frozenset({month}),
    )


def _month_and_weekday(day: date) -> tuple[int, int]:
    return day.month, day.isoweekday() % 7
