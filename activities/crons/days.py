"""Which days a cron means, said in the terms of Temporal's calendars: day, month, year AND weekday.

What depends on a month's length (`L`, `L5`, `31W`) becomes one alternative for each length.
"""

import calendar
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from activities.crons.reading import LAST, Cron

__all__ = ["ALL_DAYS", "ALL_MONTHS", "ALL_WEEKDAYS", "ALL_YEARS", "Days", "days_of", "shifted"]

ALL_DAYS = frozenset(range(1, 32))
ALL_WEEKDAYS = frozenset(range(7))
ALL_MONTHS = frozenset(range(1, 13))
ALL_YEARS = frozenset(range(2000, 2101))
"""Those that Temporal's calendars know."""

_LEAP_YEARS = frozenset(year for year in ALL_YEARS if calendar.isleap(year))
_LENGTHS = (
    (31, frozenset({1, 3, 5, 7, 8, 10, 12}), ALL_YEARS),
    (30, frozenset({4, 6, 9, 11}), ALL_YEARS),
    (29, frozenset({2}), _LEAP_YEARS),
    (28, frozenset({2}), ALL_YEARS - _LEAP_YEARS),
)
_MONDAY, _FRIDAY = 1, 5
_WORKDAYS = frozenset(range(_MONDAY, _FRIDAY + 1))
_ANY_LENGTH = 31


@dataclass(frozen=True)
class Days:
    """The days that are of all four sets."""

    days: frozenset[int] = ALL_DAYS
    weekdays: frozenset[int] = ALL_WEEKDAYS
    months: frozenset[int] = ALL_MONTHS
    years: frozenset[int] = ALL_YEARS

    def __and__(self, other: "Days") -> "Days":
        return Days(
            self.days & other.days,
            self.weekdays & other.weekdays,
            self.months & other.months,
            self.years & other.years,
        )

    def __bool__(self) -> bool:
        return bool(self.days and self.weekdays and self.months and self.years)


def days_of(cron: Cron) -> list[Days]:
    """The days of a cron as alternatives; none if it never fires in Temporal's years.

    Day and weekday together mean either of the two, but for `#` and `W`: those croniter demands in any case.
    """
    within = Days(
        months=ALL_MONTHS if cron.months is None else cron.months,
        years=ALL_YEARS if cron.years is None else cron.years & ALL_YEARS,
    )
    alternatives = [
        days & Days(months=months, years=years) & within
        for length, months, years in _lengths(cron)
        for days in _of_length(cron, length)
    ]
    return [days for days in dict.fromkeys(alternatives) if days]


def shifted(on: Days, shift: int) -> Iterator[Days]:
    """The days before (-1) or after (1) each of these, as alternatives."""
    weekdays = frozenset((weekday + shift) % len(ALL_WEEKDAYS) for weekday in on.weekdays)
    if shift == 0 or on == Days(weekdays=on.weekdays):
        yield replace(on, weekdays=weekdays)
        return
    for length, months, years in _LENGTHS:
        within = Days(months=months, years=years)
        days = frozenset(day + shift for day in on.days if day <= length and 1 <= day + shift <= length)
        yield replace(on, days=days, weekdays=weekdays) & within
        if shift > 0 and length in on.days:
            for start, months_after, years_after in _moved(on & within, 1):
                yield Days(start, weekdays, months_after, years_after)
        if shift < 0 and 1 in on.days:
            for _, months_before, years_before in _moved(on, -1):
                yield Days(frozenset({length}), weekdays, months_before, years_before) & within


def _moved(on: Days, step: int) -> Iterator[tuple[frozenset[int], frozenset[int], frozenset[int]]]:
    """The months before or after, with their years: those of another year are apart."""
    edge = 12 if step > 0 else 1
    first = frozenset({1})
    yield first, frozenset(month + step for month in on.months if month != edge), on.years
    if edge in on.months:
        years = on.years if on.years == ALL_YEARS else frozenset(year + step for year in on.years)
        yield first, frozenset({1 if step > 0 else 12}), years & ALL_YEARS


def _lengths(cron: Cron) -> Iterable[tuple[int, frozenset[int], frozenset[int]]]:
    if cron.is_last_day or cron.nearest_weekday is not None or any(LAST in nth for _, nth in cron.nth_weekdays):
        return _LENGTHS
    return ((_ANY_LENGTH, ALL_MONTHS, ALL_YEARS),)


def _of_length(cron: Cron, length: int) -> Iterator[Days]:
    by_day = _by_day(cron, length)
    by_number = [_nth(weekday, number, length) for weekday, nth in cron.nth_weekdays for number in nth]
    if by_number:
        is_either = cron.weekdays is not None and cron.days is not None and cron.nearest_weekday is None
        yield from by_number if is_either else [day & nth for day in by_day for nth in by_number]
        return
    if cron.weekdays is None or cron.nearest_weekday is not None:
        yield from by_day
    else:
        yield Days(weekdays=cron.weekdays)
        if cron.days is not None:
            yield from by_day


def _by_day(cron: Cron, length: int) -> list[Days]:
    if cron.nearest_weekday is not None:
        return list(_nearest(min(cron.nearest_weekday, length), length))
    if cron.days is None:
        return [Days()]
    return [Days(days=cron.days | ({length} if cron.is_last_day else frozenset()))]


def _nearest(day: int, length: int) -> Iterator[Days]:
    yield Days(days=frozenset({day}), weekdays=_WORKDAYS)
    on_saturday, monday = (day - 1, False) if day > 1 else (day + 2, True)
    yield Days(days=frozenset({on_saturday}), weekdays=frozenset({_MONDAY if monday else _FRIDAY}))
    on_sunday, monday = (day + 1, True) if day < length else (day - 2, False)
    yield Days(days=frozenset({on_sunday}), weekdays=frozenset({_MONDAY if monday else _FRIDAY}))


def _nth(weekday: int, number: int | str, length: int) -> Days:
    first = length - 6 if isinstance(number, str) else 7 * (number - 1) + 1
    return Days(days=frozenset(range(first, first + 7)) & ALL_DAYS, weekdays=frozenset({weekday}))
