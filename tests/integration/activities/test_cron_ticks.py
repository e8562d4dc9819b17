"""Every instant of croniter's is a tick of Temporal's own; around changes of the clocks too."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from activities.crons import next_instant, schedule_spec
from tests.integration.activities.conftest import Ticks

EXACT_ZONES = ["UTC", "America/New_York", "America/Nuuk", "Asia/Kathmandu"]
"""Their clocks change never, or in a way that Temporal knows."""
NEARLY_EXACT_ZONES = [
    "Europe/Berlin",
    "Europe/Dublin",  # has a winter time
    "Australia/Sydney",
    "Australia/Lord_Howe",  # by half an hour
    "Antarctica/Troll",  # by two hours
    "Pacific/Chatham",  # at a quarter to three
    "America/Havana",  # at midnight
    "Atlantic/Azores",
]
"""In the weeks around a change of their clocks there are more ticks than instants."""
ODD_ZONES = ["Africa/Casablanca"]
"""Their clocks change by the moon."""
CHANGES = [
    "2027-03-14",  # New York, Havana: forward; Casablanca: forward
    "2027-11-07",  # New York, Havana: back
    "2027-03-28",  # Berlin, Troll, Nuuk (the evening before): forward
    "2027-10-31",  # Berlin, Troll, Nuuk: back
    "2027-10-03",  # Lord Howe: half an hour forward
    "2027-04-04",  # Lord Howe, Chatham: back
    "2027-09-26",  # Chatham: forward, at a quarter to three
    "2027-02-07",  # Casablanca: back
]
MOST_INSTANTS = 250

minutes = st.sampled_from(["*", "0", "*/7", "3,17,59", "10-20/5", "30", "15/15", "50-10/10", "*,3"])
hours = st.sampled_from(["*", "0", "*/6", "3,23", "9-17", "2", "1,2,3", "0-22", "22-2", "1-3/2"])
days = st.sampled_from(["*", "?", "1", "L", "15,L", "1-7", "30", "31", "29", "15W", "31W", "w1", "*/2", "28-3"])
months = st.sampled_from(["*", "1", "2", "2,6", "jan-mar", "oct-feb", "*/3", "mar,apr,sep-nov"])
weekdays = st.sampled_from(["*", "?", "0", "7", "mon-fri", "5#2", "L5", "sun", "2#5", "fri-mon", "mon-wed#1", "L0,1#1"])
seconds = st.sampled_from(["0", "30", "*/20", "5,50"])
years = st.sampled_from(["*", "2027", "2027-2032/2", "2028"])
aliases = st.sampled_from(["@hourly", "@daily", "@Daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"])
crons = st.one_of(
    st.tuples(minutes, hours, days, months, weekdays).map(" ".join),
    st.tuples(minutes, hours, days, months, weekdays, seconds).map(" ".join),
    st.tuples(minutes, hours, days, months, weekdays, seconds, years).map(" ".join),
    aliases,
)
around_a_change = st.tuples(st.sampled_from(CHANGES), st.integers(-30 * 60, 20 * 60)).map(
    lambda found: datetime.fromisoformat(found[0]) + timedelta(minutes=found[1])
)
anywhere = st.datetimes(datetime.fromisoformat("2027-01-01"), datetime.fromisoformat("2032-01-01"))
starts = st.one_of(around_a_change, anywhere).map(lambda naive: naive.replace(tzinfo=UTC, microsecond=0))

thoroughly = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def instants_of(cron: str, timezone: str, start: datetime) -> list[datetime]:
    """Croniter's instants after a moment; those of some days, but at least one."""
    found: list[datetime] = []
    end = start + timedelta(days=4)
    at: datetime | None = start
    while len(found) < MOST_INSTANTS and at is not None and (at < end or len(found) < 3):
        at = next_instant(cron, timezone, at)
        if at is not None and at.year <= 2100:
            found.append(at)
    return found


@thoroughly
@given(cron=crons, timezone=st.sampled_from(EXACT_ZONES), start=starts)
@example("30 2 * * *", "America/New_York", datetime(2027, 3, 14, tzinfo=UTC))
@example("30 0-3 * * *", "America/New_York", datetime(2027, 11, 7, tzinfo=UTC))
@example("0 0 29 2 *", "UTC", datetime(2027, 1, 1, tzinfo=UTC))
def test_ticks_are_croniters_instants(ticks: Ticks, cron: str, timezone: str, start: datetime) -> None:
    instants = instants_of(cron, timezone, start)
    assume(instants)

    assert ticks.between(schedule_spec(cron, timezone), start, instants[-1]) == instants


@thoroughly
@given(cron=crons, timezone=st.sampled_from(NEARLY_EXACT_ZONES), start=starts)
@example("30 0 * * *", "America/Havana", datetime(2027, 3, 13, tzinfo=UTC))
@example("0 12 * * sun", "America/Havana", datetime(2027, 3, 13, tzinfo=UTC))
@example("*/15 * * * *", "Europe/Berlin", datetime(2027, 10, 30, 22, tzinfo=UTC))
@example("30 2 * * *", "Europe/Berlin", datetime(2027, 3, 27, tzinfo=UTC))
@example("@yearly", "Australia/Sydney", datetime(2027, 3, 27, tzinfo=UTC))
@example("0 4 L * *", "Pacific/Chatham", datetime(2028, 1, 27, tzinfo=UTC))
def test_ticks_are_more_than_that_only_around_changes_of_the_clocks(
    ticks: Ticks, cron: str, timezone: str, start: datetime
) -> None:
    instants = instants_of(cron, timezone, start)
    assume(instants)

    found = ticks.between(schedule_spec(cron, timezone), start, instants[-1])

    assert not set(instants) - set(found)
    assert not [tick for tick in set(found) - set(instants) if not is_near_a_change(timezone, tick)]


def is_near_a_change(timezone: str, moment: datetime) -> bool:
    zone, week = ZoneInfo(timezone), timedelta(days=8)
    before, after = ((moment + step).astimezone(zone).utcoffset() for step in (-week, week))
    return before != after


@thoroughly
@given(cron=crons, timezone=st.sampled_from(ODD_ZONES), start=starts)
def test_where_changes_follow_no_rule_there_are_ticks_for_all_instants(
    ticks: Ticks, cron: str, timezone: str, start: datetime
) -> None:
    instants = instants_of(cron, timezone, start)[:25]

    assert not ticks.missing(schedule_spec(cron, timezone), instants)


@thoroughly
@given(
    cron=crons,
    timezone=st.sampled_from([*EXACT_ZONES, *NEARLY_EXACT_ZONES, *ODD_ZONES]),
    looked_at=st.lists(starts, min_size=10, max_size=10, unique=True),
)
def test_whenever_somebody_looks_the_next_instant_is_a_tick(
    ticks: Ticks, cron: str, timezone: str, looked_at: list[datetime]
) -> None:
    instants = {next_instant(cron, timezone, moment) for moment in looked_at}

    assert not ticks.missing(
        schedule_spec(cron, timezone), sorted(at for at in instants if at is not None and at.year <= 2100)
    )


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("r 4 * * *", 60),
        ("r(10-20) 4 * * *", 11),
        ("r/15 4 * * *", 60),
        ("0 r(1-3) * * *", 3),
        ("0 0 r * mon", 1),
    ],
)
def test_a_random_value_is_every_value_that_may_be_drawn(ticks: Ticks, cron: str, expected: int) -> None:
    start = datetime(2027, 5, 3, tzinfo=UTC) - timedelta(seconds=1)

    assert len(ticks.between(schedule_spec(cron, "UTC"), start, start + timedelta(days=1))) == expected


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 1 1 * 0 2020", "0 0 31 4,6 *"])
def test_what_never_comes_has_no_ticks(ticks: Ticks, cron: str) -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)

    assert next_instant(cron, "UTC", start) is None
    assert ticks.between(schedule_spec(cron, "UTC"), start, start.replace(year=2099)) == []
