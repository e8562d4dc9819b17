from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from server.crons import next_tick
from tcloud.wire.environments import CronGroup


def group(cron: str, timezone: str = "UTC") -> CronGroup:
    return CronGroup(cron=cron, timezone=timezone, models=[])


def test_no_cron_has_no_tick() -> None:
    assert next_tick([]) is None


def test_the_earliest_cron_decides() -> None:
    tick = next_tick([group("0 0 1 1 *"), group("* * * * *")])
    assert tick is not None
    assert tick.tzinfo is UTC
    assert 0 < (tick - datetime.now(UTC)).total_seconds() <= 60


def test_a_cron_is_local_time() -> None:
    tick = next_tick([group("30 4 * * *", "Asia/Kolkata")])
    assert tick is not None
    local = tick.astimezone(ZoneInfo("Asia/Kolkata"))
    assert (local.hour, local.minute) == (4, 30)


def test_a_cron_whose_years_are_over_has_no_tick() -> None:
    assert next_tick([group("0 0 1 1 * 0 2020")]) is None
    assert next_tick([group("0 0 1 1 * 0 2020"), group("@daily")]) is not None
