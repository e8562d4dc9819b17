"""Crons as schedules: every instant of croniter's is a tick."""

from datetime import UTC, datetime

import pytest
from croniter import croniter
from croniter.croniter import CroniterBadDateError
from hypothesis import given
from hypothesis import strategies as st
from temporalio.client import ScheduleCalendarSpec, ScheduleRange

from activities.crons import CronNotTranslatableError, schedule_spec

FIELDS = [
    st.sampled_from(["*", "0", "*/7", "3,17,59", "10-20/5"]),
    st.sampled_from(["*", "0", "*/6", "3,23", "9-17"]),
    st.sampled_from(["*", "1", "L", "15,L", "1-7", "30"]),
    st.sampled_from(["*", "1", "2,6", "jan-mar"]),
    st.sampled_from(["*", "0", "7", "mon-fri", "5#2", "L5", "sun"]),
]
crons = st.one_of(
    st.tuples(*FIELDS).map(" ".join),
    st.tuples(*FIELDS, st.sampled_from(["0", "30", "*/20"])).map(" ".join),
    st.sampled_from(["@hourly", "@daily", "@weekly", "@monthly", "@yearly"]),
)


def ticks(calendar: ScheduleCalendarSpec, instant: datetime) -> bool:
    """Whether a calendar fires at an instant; what Temporal's server does with a compiled calendar."""
    values = [
        (calendar.second, instant.second),
        (calendar.minute, instant.minute),
        (calendar.hour, instant.hour),
        (calendar.day_of_month, instant.day),
        (calendar.month, instant.month),
        (calendar.day_of_week, instant.isoweekday() % 7),
    ]
    return all(any(_covers(r, value) for r in ranges) for ranges, value in values)


def _covers(found: ScheduleRange, value: int) -> bool:
    return found.start <= value <= max(found.start, found.end) and (value - found.start) % max(found.step, 1) == 0


@given(crons, st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001 - hypothesis wants naive ones
def test_every_instant_of_croniter_is_a_tick(cron: str, start: datetime) -> None:
    spec = schedule_spec(cron, "UTC")
    upcoming = croniter(cron, start.replace(tzinfo=UTC))

    for _ in range(5):
        try:
            instant: datetime = upcoming.get_next(datetime)  # type: ignore[no-untyped-call]
        except CroniterBadDateError:
            return  # it never fires, so there is no tick to miss
        assert any(ticks(calendar, instant) for calendar in spec.calendars), f"{cron} at {instant}"


def test_a_plain_cron_ticks_no_more_often_than_it_says() -> None:
    (calendar,) = schedule_spec("*/5 * * * *", "UTC").calendars

    assert ticks(calendar, datetime(2026, 1, 1, 0, 5, tzinfo=UTC))
    assert not ticks(calendar, datetime(2026, 1, 1, 0, 6, tzinfo=UTC))
    assert not ticks(calendar, datetime(2026, 1, 1, 0, 5, 1, tzinfo=UTC))


def test_the_timezone_is_the_schedules() -> None:
    assert schedule_spec("@daily", "Europe/Berlin").time_zone_name == "Europe/Berlin"


@pytest.mark.parametrize("cron", ["", "61 * * * *", "every day", "* * * *"])
def test_what_is_no_cron_is_refused_with_its_text(cron: str) -> None:
    with pytest.raises(CronNotTranslatableError, match="cannot be scheduled"):
        schedule_spec(cron, "UTC")
