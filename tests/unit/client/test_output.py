"""Listings: the fields that scripts rely on."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tcloud.output import Format, as_json, show, show_many
from tcloud.wire.environments import Schedule

FIELDS = ("schedule_id", "environment", "cron", "timezone", "models", "next_run_at", "paused")
SCHEDULE = Schedule(
    schedule_id="schedule/prod/@daily/UTC",
    environment="prod",
    cron="@daily",
    timezone="UTC",
    models=["a", "b"],
    next_run_at=datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=1))),
    paused=False,
)


def test_times_are_utc_with_a_z() -> None:
    assert as_json(SCHEDULE, FIELDS)["next_run_at"] == "2026-01-02T02:00:00Z"
    fraction = SCHEDULE.model_copy(update={"next_run_at": datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)})
    assert as_json(fraction, FIELDS)["next_run_at"] == "2026-01-02T03:04:05.000600Z"


def test_json_has_the_fields_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    show_many([SCHEDULE], FIELDS, FIELDS, Format.JSON)
    (listed,) = json.loads(capsys.readouterr().out)
    assert tuple(listed) == FIELDS
    assert listed["models"] == ["a", "b"]


def test_a_table_in_a_pipe_keeps_its_lines_whole(capsys: pytest.CaptureFixture[str]) -> None:
    long = SCHEDULE.model_copy(update={"models": [f"model_{number}" for number in range(40)]})
    show_many([long, SCHEDULE], FIELDS, FIELDS, Format.TABLE)
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == list(FIELDS)
    assert "model_39" in first
    assert "2026-01-02 02:00:00Z" in second


def test_nothing_to_list_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    show_many([], FIELDS, FIELDS, Format.JSON)
    assert json.loads(capsys.readouterr().out) == []


def test_one_thing_with_parts(capsys: pytest.CaptureFixture[str]) -> None:
    show({"run_id": "r", "end_at": None, "evaluations": [{"model": "a", "error_message": None}]}, Format.TABLE)
    assert capsys.readouterr().out.splitlines() == ["run_id       r", "end_at       -", "evaluations:", "  model=a"]
