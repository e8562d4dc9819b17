"""Evaluations as a person reads them."""

from datetime import UTC, datetime, timedelta

import pytest

from tcloud.commands.evaluations import duration, evaluation_table, interval_of, summary_of, worst_first
from tcloud.wire.runs import Audit, Evaluation
from tcloud.wire.statuses import Status

START = datetime(2026, 3, 1, 9, 15, tzinfo=UTC)
DAY = datetime(2026, 2, 28, tzinfo=UTC)


def evaluation(number: int, status: Status = Status.SUCCESS, **more: object) -> Evaluation:
    values: dict[str, object] = {
        "evaluation_id": f"e{number}",
        "model": f'"wh"."demo"."m{number}"',
        "status": status,
        "attempt": 1,
        "interval_start": DAY,
        "interval_end": DAY + timedelta(days=1),
        "start_at": START,
        "end_at": START + timedelta(seconds=2),
        **more,
    }
    return Evaluation.model_validate(values)


def test_two_hundred_models_with_what_failed_on_top(capsys: pytest.CaptureFixture[str]) -> None:
    found = [evaluation(number) for number in range(198)]
    reason = "Upstream model demo.m7 failed."
    found.insert(50, evaluation(198, Status.SKIPPED, start_at=None, error_message=reason))
    found.append(evaluation(199, Status.FAILED, error_message="division\n  by [zero]"))
    assert summary_of(found) == "1 failed, 1 skipped, 198 success"
    evaluation_table(worst_first(found))
    header, first, second, third, *rest = capsys.readouterr().out.splitlines()
    assert header.split() == ["status", "model", "interval", "attempt", "start_at", "took", "executor", "reason"]
    assert first.split()[:2] == ["failed", "wh.demo.m199"]
    assert first.rstrip().endswith("division by [zero]")
    assert second.rstrip().endswith(reason)
    assert third.split()[:5] == ["success", "wh.demo.m0", "2026-02-28", "to", "2026-03-01"]
    assert "2.0s" in third
    assert len(rest) == 197


def test_a_model_over_runs_and_plans(capsys: pytest.CaptureFixture[str]) -> None:
    of_run = evaluation(1, run_id="prod-1", environment="prod")
    evaluation_table([of_run, evaluation(1, plan_id="p1", environment="dev")], with_owner=True)
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[1:3] == ["prod", "prod-1"]
    assert second.split()[1:3] == ["dev", "p1"]


@pytest.mark.parametrize(
    ("seconds", "says"), [(0.04, "0.0s"), (59.94, "59.9s"), (60, "1m 00s"), (3599, "59m 59s"), (7384, "2h 03m")]
)
def test_durations(seconds: float, says: str) -> None:
    assert duration(evaluation(1, end_at=START + timedelta(seconds=seconds))) == says


def test_what_never_started_took_no_time() -> None:
    assert duration(evaluation(1, Status.SKIPPED, start_at=None)) is None
    assert interval_of(evaluation(1, interval_start=None, interval_end=None)) is None


def test_intervals_that_are_no_days_say_their_times() -> None:
    hour = evaluation(1, interval_start=START, interval_end=START + timedelta(hours=1))
    assert interval_of(hour) == "2026-03-01 09:15:00 to 2026-03-01 10:15:00"


def test_an_audit_that_does_not_block_is_a_reason_too(capsys: pytest.CaptureFixture[str]) -> None:
    audit = Audit(name="not_null", status=Status.FAILED, blocking=False, count=3)
    evaluation_table([evaluation(1, audits=[audit])])
    assert "Failed audits, not blocking: not_null." in capsys.readouterr().out
