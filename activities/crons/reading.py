"""Reads crons with croniter, as SQLMesh does."""

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from croniter.croniter import CroniterError

__all__ = ["Cron", "CronNotTranslatableError", "croniter_at", "read_cron", "zone_of"]

ANY = "*"
LAST = "l"
_FIELDS = re.compile(r"\S+", re.ASCII)
_RANDOM = re.compile(r"r(?:\((?P<range>\d+-\d+)\))?(?:/\d+)?", re.ASCII | re.IGNORECASE)
_DAY, _WEEKDAY, _SECOND, _YEAR = 2, 4, 5, 6


class CronNotTranslatableError(ValueError):
    """The cron or its timezone is none that croniter, and so SQLMesh, understands."""


@dataclass(frozen=True)
class Cron:
    """A cron as croniter has parsed it; a field is None if it says nothing."""

    seconds: frozenset[int]
    minutes: frozenset[int] | None
    hours: frozenset[int] | None
    days: frozenset[int] | None
    is_last_day: bool
    """Whether the days have `L` among them."""
    nearest_weekday: int | None
    """The day of `15W`."""
    months: frozenset[int] | None
    weekdays: frozenset[int] | None
    """0 is Sunday."""
    nth_weekdays: tuple[tuple[int, frozenset[int | str]], ...]
    """Weekdays with their numbers in the month, the last one as `l`; in place of `weekdays` if there are any."""
    years: frozenset[int] | None
    skips_missing_hours: bool
    """Whether a local time that does not exist is left out, rather than replaced by the next one that does."""


@lru_cache(maxsize=4096)
def read_cron(cron: str) -> Cron:
    """Parses a cron.

    `R` stands for a value that croniter draws anew each time: here it is every value that may be drawn.

    Raises:
        CronNotTranslatableError: If croniter refuses it.
    """
    parsed = _parsed(cron)
    drawn = [number for number, field in enumerate(_FIELDS.findall(cron)) if _RANDOM.fullmatch(field)]
    if drawn:
        parsed = _parsed(_without_random(cron))
    fields = [_Field(values) for values in parsed.expanded]
    return Cron(
        seconds=(fields[_SECOND].numbers or frozenset(range(60))) if len(fields) > _SECOND else frozenset({0}),
        minutes=fields[0].numbers,
        hours=fields[1].numbers,
        days=fields[_DAY].numbers,
        is_last_day=LAST in parsed.expanded[_DAY],
        nearest_weekday=next(iter(parsed.nearest_weekday), None),
        months=fields[3].numbers,
        weekdays=fields[_WEEKDAY].numbers,
        nth_weekdays=tuple((day, frozenset(nth)) for day, nth in sorted(parsed.nth_weekday_of_month.items())),
        years=fields[_YEAR].numbers if len(fields) > _YEAR else None,
        skips_missing_hours=fields[1].numbers is None and not drawn,
    )


def croniter_at(cron: str, timezone: str, instant: datetime) -> croniter:
    """Croniter as SQLMesh uses it: the cron, started at an instant in its timezone.

    Raises:
        CronNotTranslatableError: If croniter refuses the cron, or the timezone is unknown.
    """
    return _parsed(cron, instant.astimezone(zone_of(timezone)))


def zone_of(timezone: str) -> ZoneInfo:
    """The zone of that name.

    Raises:
        CronNotTranslatableError: If there is none.
    """
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CronNotTranslatableError(f"'{timezone}' cannot be scheduled: it is no timezone.") from error


class _Field:
    def __init__(self, values: list[int | str]):
        # Croniter takes a field that has an asterisk anywhere in its list for one that says nothing.
        is_any = ANY in values
        self.numbers = None if is_any else frozenset(value for value in values if isinstance(value, int))


def _parsed(cron: str, start: datetime | None = None) -> croniter:
    try:
        return croniter(cron, start)
    except (CroniterError, ValueError) as error:
        raise CronNotTranslatableError(f"Cron '{cron}' cannot be scheduled: {error}.") from error


def _without_random(cron: str) -> str:
    fields = _FIELDS.findall(cron)
    matches = [_RANDOM.fullmatch(field) for field in fields]
    # Day and weekday are either of the two if both are given, so that a drawn one makes every day possible.
    is_any_day = matches[_DAY] is not None or matches[_WEEKDAY] is not None
    return " ".join(
        ANY if is_any_day and number in (_DAY, _WEEKDAY) else (match["range"] or ANY) if match is not None else field
        for number, (field, match) in enumerate(zip(fields, matches, strict=True))
    )
