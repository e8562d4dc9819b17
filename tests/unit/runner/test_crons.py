"""What croniter is remembered to have said is what it says."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmesh.utils import cron as sqlmesh_cron
from sqlmesh.utils.cron import CroniterCache

from tempomesh_runner.crons import remember_crons

CRONS = ("@daily", "@hourly", "*/5 * * * *", "30 2 * * *", "0 0 1 * *", "0 12 * * 1-5", "15,45 1 29 2 *")
ZONES = (UTC, ZoneInfo("Europe/Paris"), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe"))


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlmesh_cron, "croniter", vars(sqlmesh_cron)["croniter"])


moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.sampled_from(ZONES))  # noqa: DTZ001


@given(st.lists(st.tuples(st.sampled_from(CRONS), st.sampled_from(ZONES), moments), max_size=8))
def test_remembered_ticks_are_croniters(questions: list[tuple[str, ZoneInfo, datetime]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        expected = [_ticks(*question) for question in questions]
        patch.setattr(sqlmesh_cron, "croniter", sqlmesh_cron.croniter)  # type: ignore[attr-defined]
        remember_crons()
        assert [_ticks(*question) for question in questions * 2] == expected * 2


def test_moments_that_compare_as_equal_are_told_apart() -> None:
    paris = ZoneInfo("Europe/Paris")
    first = datetime(2024, 10, 27, 2, 30, tzinfo=paris)
    moments = [first, first.replace(fold=1), first.astimezone(UTC), first.replace(fold=1).astimezone(UTC)]
    expected = [_ticks("30 2 * * *", moment.tzinfo, moment) for moment in moments]
    remember_crons()
    assert [_ticks("30 2 * * *", moment.tzinfo, moment) for moment in moments] == expected


def _ticks(cron: str, zone: object, moment: datetime) -> tuple[datetime, datetime, datetime]:
    cache = CroniterCache(cron, moment, tz=zone)  # type: ignore[arg-type]
    following = cache.get_next()
    cache.curr = moment + timedelta(0)
    return following, cache.get_prev(), cache.get_next(estimate=True)
