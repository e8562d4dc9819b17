from datetime import UTC, datetime, timedelta
from io import StringIO

from rich.console import Console

from stack.screen import Screen
from tcloud.wire.environments import Schedule
from tcloud.wire.runs import Audit, Evaluation
from tcloud.wire.statuses import Status


def printed(show: str, *values: object) -> list[str]:
    console = Console(width=120, record=True, file=StringIO())
    getattr(Screen(console), show)(*values)
    return console.export_text().splitlines()


def test_schedules_come_in_the_order_of_their_next_times() -> None:
    def schedule(cron: str, minutes: int, *models: str) -> Schedule:
        return Schedule(
            schedule_id=cron,
            environment="prod",
            cron=cron,
            timezone="UTC",
            models=[f'"warehouse"."bikes"."{model}"' for model in models],
            next_run_at=datetime.now(UTC) + timedelta(minutes=minutes),
            paused=False,
        )

    lines = printed("schedules", [schedule("@daily", 90, *"abcdef"), schedule("* * * * *", 1, "availability")])
    assert lines[1].startswith("* * * * *")
    assert "bikes.availability" in lines[1]
    assert lines[2].startswith("@daily")
    assert "bikes.a, bikes.b, bikes.c, bikes.d and 2 more" in lines[2]


def test_an_evaluation_shows_its_interval_and_its_audits() -> None:
    start = datetime(2026, 1, 5, 8, tzinfo=UTC)
    evaluation = Evaluation(
        evaluation_id="1",
        model='"warehouse"."bikes"."trips"',
        interval_start=start,
        interval_end=start + timedelta(hours=1),
        status=Status.SUCCESS,
        attempt=1,
        start_at=start,
        end_at=start + timedelta(milliseconds=250),
        audits=[
            Audit(name="a", status=Status.SUCCESS, blocking=True),
            Audit(name="b", status=Status.FAILED, blocking=False, count=3),
        ],
    )
    line = printed("evaluations", [evaluation])[1]
    assert line.split() == ["bikes.trips", "08:00", "to", "09:00", "success", "1", "of", "2", "passed", "0.25", "s"]
