"""Crons as schedules; that their ticks are croniter's is shown on a real Temporal, in the integration tests."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlmesh.utils.pydantic import cron_validator
from temporalio.client import ScheduleRange

from activities.crons import CronNotTranslatableError, last_instant, next_instant, schedule_spec
from activities.crons.ranges import as_ranges

values = st.one_of(
    st.integers(0, 60).map(str),
    st.sampled_from(["*", "?", "L", "W", "R", "mon", "SUN", "jan", "Dec", "2027", "2099"]),
)
elements = st.one_of(
    st.just("*"),
    values,
    st.tuples(values, st.sampled_from([*"-/#WL", ""]), values).map("".join),
    st.tuples(values, values, values).map(lambda found: "{}-{}/{}".format(*found)),
    st.tuples(values, values, values).map(lambda found: "R({}-{})/{}".format(*found)),
)
fields = st.one_of(st.just("*"), elements, st.lists(elements, min_size=1, max_size=3).map(",".join))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(st.integers(5, 7), st.dictionaries(st.integers(0, 6), fields, min_size=1, max_size=3))
def test_whatever_sqlmesh_accepts_can_be_scheduled(length: int, given_fields: dict[int, str]) -> None:
    cron = " ".join(given_fields.get(number, "*") for number in range(length))
    try:
        cron_validator(cron)
    except ValueError:
        assume(condition=False)

    schedule_spec(cron, "Europe/Berlin")


@pytest.mark.parametrize("cron", ["", "61 * * * *", "every day", "* * * *", "H * * * *", "@reboot"])
def test_what_is_no_cron_is_refused_with_its_text(cron: str) -> None:
    with pytest.raises(CronNotTranslatableError, match="cannot be scheduled"):
        schedule_spec(cron, "UTC")


def test_what_is_no_timezone_is_refused_with_its_name() -> None:
    with pytest.raises(CronNotTranslatableError, match="'Europe/Atlantis' cannot be scheduled: it is no timezone"):
        schedule_spec("@daily", "Europe/Atlantis")


def test_the_timezone_is_the_schedules_where_temporal_gets_it_right() -> None:
    assert schedule_spec("@daily", "America/New_York").time_zone_name == "America/New_York"
    berlin = schedule_spec("@daily", "Europe/Berlin")
    assert berlin.time_zone_name == "UTC"
    assert {calendar.comment for calendar in berlin.calendars} == {"UTC+01:00", "UTC+02:00"}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([], []),
        ([3], [ScheduleRange(3, 3, 1)]),
        (range(60), [ScheduleRange(0, 59, 1)]),
        ([0, 15, 30, 45], [ScheduleRange(0, 45, 15)]),
        ([1, 2, 3, 7, 9, 10], [ScheduleRange(1, 3, 1), ScheduleRange(7, 7, 1), ScheduleRange(9, 10, 1)]),
    ],
)
def test_numbers_become_few_ranges(numbers: list[int], expected: list[ScheduleRange]) -> None:
    assert as_ranges(numbers) == expected


def test_instants_are_those_before_and_after_a_moment() -> None:
    noon = datetime(2027, 3, 14, 12, tzinfo=UTC)

    assert last_instant("@daily", "UTC", noon) == datetime(2027, 3, 14, tzinfo=UTC)
    assert next_instant("@daily", "America/New_York", noon) == datetime(2027, 3, 15, 4, tzinfo=UTC)
    assert next_instant("0 0 1 1 * 0 2020", "UTC", noon) is None
    assert last_instant("0 0 1 1 * 0 2030", "UTC", noon) is None
