"""When the clocks of a timezone are changed, in the decades to come."""

from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from activities.crons.days import Days

__all__ = ["ClockChanges", "Gap", "clock_changes"]

_YEARS = 30
"""A rule such as "the second Sunday of March" has shown all of its days after 28 years."""

_HOUR, _DAY, _MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
_DAY_MINUTES = 24 * 60
_A_LEAP_YEAR = 2028


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


@dataclass(frozen=True)
class ClockChanges:
    """The changes of one timezone."""

    are_right_in_temporal: bool
    """Whether Temporal's ticks in local time are the right ones on the days of the changes, too.

    They are where the clock is put by an hour, on the hour, not at midnight, and put back west of Greenwich: elsewhere
    Temporal leaves out times that come twice, or takes the day for another day of the week.
    """
    offsets: tuple[tuple[timedelta, tuple[Days, ...]], ...]
    """All offsets from UTC that occur, with the days, in UTC, on which they may."""
    gaps: tuple[Gap, ...]


@lru_cache(maxsize=1024)
def clock_changes(zone: ZoneInfo, first_year: int) -> ClockChanges:
    """The changes of a timezone from the beginning of a year on.

    Changes with the same rule, a weekday of a month, are one gap. It covers the days between the earliest and the
    latest, and so is exact for all zones that have such rules.
    """
    changes = list(_changes(zone, first_year))
    spans: dict[tuple[object, ...], list[_Span]] = defaultdict(list)
    for change in changes:
        for span in change.skipped():
            spans[span.rule].append(span)
    return ClockChanges(
        are_right_in_temporal=all(change.is_right_in_temporal for change in changes),
        offsets=tuple(_offsets(zone, first_year, changes)),
        gaps=tuple(_gap(found) for _, found in sorted(spans.items(), key=lambda item: str(item[0]))),
    )


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
    ends_summer_time: bool
    """Whether it ends what the zone itself calls a deviation; Ireland's winter time is one, its summer time is not."""

    @property
    def _from(self) -> datetime:
        return (self.at + self.before).replace(tzinfo=None)

    @property
    def _to(self) -> datetime:
        return (self.at + self.after).replace(tzinfo=None)

    @property
    def is_right_in_temporal(self) -> bool:
        shift = self.after - self.before
        if abs(shift) != _HOUR or self._from.minute or self._from.second:
            return False
        if shift > timedelta():
            return all(0 not in span.skipped for span in self.skipped())
        return self.ends_summer_time and self.before <= timedelta()

    def skipped(self) -> Iterator[_Span]:
        day = self._from.date()
        while (midnight := datetime.combine(day, time())) < self._to:
            first = max(self._from - midnight, timedelta()) // _MINUTE
            end = min((self._to - midnight) // _MINUTE, _DAY_MINUTES)
            if first < end:
                yield _Span(day, range(first, end), self._to, self.at.replace(tzinfo=None))
            day += _DAY


def _changes(zone: ZoneInfo, first_year: int) -> Iterator[_Change]:
    at, end = _bounds(first_year)
    before = _offset(zone, at)
    while at < end:
        after = _offset(zone, at + _DAY)
        if after != before:
            yield _Change(
                _moment(zone, at, at + _DAY, before),
                before,
                after,
                ends_summer_time=bool(at.astimezone(zone).dst()) and not (at + _DAY).astimezone(zone).dst(),
            )
            before = after
        at += _DAY


def _bounds(first_year: int) -> tuple[datetime, datetime]:
    return datetime(first_year, 1, 1, tzinfo=UTC), datetime(first_year + _YEARS, 1, 1, tzinfo=UTC)


def _moment(zone: ZoneInfo, low: datetime, high: datetime, before: timedelta) -> datetime:
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
    return high


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 - of an aware time in a zone there is always one
    return offset


def _offsets(zone: ZoneInfo, first_year: int, changes: list[_Change]) -> Iterator[tuple[timedelta, tuple[Days, ...]]]:
    start, end = _bounds(first_year)
    if not changes:
        yield _offset(zone, start), (Days(),)
        return
    seen: dict[timedelta, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    moments = [start, *(change.at for change in changes), end - _DAY]
    offsets = [changes[0].before, *(change.after for change in changes)]
    for offset, (first, last) in zip(offsets, pairwise(moments), strict=True):
        day = first.date()
        while day <= last.date():
            seen[offset][day.month].add(day.day)
            day += _DAY
    for offset, by_month in sorted(seen.items()):
        yield offset, tuple(_by_days(by_month))


def _by_days(by_month: dict[int, set[int]]) -> Iterator[Days]:
    months: dict[frozenset[int], set[int]] = defaultdict(set)
    for month, days in by_month.items():
        # To the end of a month is to the end of any month, so that more of them are the same.
        reaches_end = max(days) == monthrange(_A_LEAP_YEAR, month)[1]
        months[frozenset(days) | (frozenset(range(max(days), 32)) if reaches_end else frozenset())].add(month)
    for covered, found in sorted(months.items(), key=lambda item: min(item[1])):
        yield Days(days=covered, months=frozenset(found))


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


def _between(days: Iterable[date]) -> Days:
    ordered = sorted(days, key=lambda day: day.day)
    month, weekday = _month_and_weekday(ordered[0])
    return Days(
        days=frozenset(range(ordered[0].day, ordered[-1].day + 1)),
        weekdays=frozenset({weekday}),
        months=frozenset({month}),
    )


def _month_and_weekday(day: date) -> tuple[int, int]:
    return day.month, day.isoweekday() % 7
