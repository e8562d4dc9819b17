"""A project whose units take a while, the processes that can be disturbed meanwhile, and the check that ends it all."""

import json
from pathlib import Path
from typing import Any

from tests.acceptance.projects import scheduled_config
from tests.eventually import eventually
from tests.fixtures.processes import StackProcesses
from tests.fixtures.records import Records
from tests.fixtures.stack import RunningStack

__all__ = ["ENVIRONMENT", "SLEEPERS", "Chaos"]

ENVIRONMENT = "chaos"
SLEEPERS = 9
FIRST_DAY = 3
CONFIG = scheduled_config("2025-01-01")
SLEEPER = """
MODEL (name chaos.m%d, kind INCREMENTAL_BY_TIME_RANGE (time_column day));
SELECT
  @start_ds::DATE AS day,
  CAST(pg_sleep(CASE WHEN @start_ds::DATE > '2025-01-02' THEN %s ELSE 0 END) AS TEXT) AS chaos_slept
"""
SUM = "MODEL (name chaos.sum, kind FULL); SELECT COUNT(*) AS days FROM chaos.m0 JOIN chaos.m1 USING (day)"


class Chaos:
    """The project on a stack, and one run of it a day.

    Args:
        stack: A stack that is ready.
        folder: An empty folder for the project.
    """

    def __init__(self, stack: RunningStack, folder: Path):
        self.stack = stack
        self.records = Records(stack)
        self.processes = StackProcesses(stack)
        self._project = folder
        self._day = FIRST_DAY

    def plan(self) -> None:
        """Plans and applies the project; every model has been evaluated up to the first day then."""
        (self._project / "models").mkdir(parents=True)
        (self._project / "config.yaml").write_text(CONFIG)
        for number in range(SLEEPERS):
            seconds = "3" if number == 0 else "1.2"
            (self._project / "models" / f"m{number}.sql").write_text(SLEEPER % (number, seconds))
        (self._project / "models" / "sum.sql").write_text(SUM)
        planned = self.stack.tcloud(
            *("sqlmesh", "-p", str(self._project), "plan", ENVIRONMENT, "--auto-apply", "--no-prompts"),
            *("--include-unmodified", "--execution-time", f"2025-01-{FIRST_DAY:02d} 12:00:00"),
        )
        assert planned.returncode == 0, planned.stdout + planned.stderr

    def start_run(self) -> str:
        """Starts the run of the next day, and waits until it evaluates."""
        self._day += 1
        run_id = self.start_run_again()
        eventually(lambda: self.queries() > 0, 60)
        return run_id

    def start_run_again(self) -> str:
        """Starts another run of the same day."""
        started = self.stack.tcloud(
            *("runs", "start", "--environment", ENVIRONMENT, "--no-follow", "-o", "json"),
            *("--execution-time", f"2025-01-{self._day:02d} 12:00:00"),
        )
        assert started.returncode == 0, started.stderr
        return str(json.loads(started.stdout)["run_id"])

    def ended(self, run_id: str, timeout: float = 180) -> dict[str, Any]:
        """The record of a run, once it has an end."""
        return self.records.ended(run_id, timeout).model_dump(mode="json")

    def check(self) -> None:
        """Every interval that was due is recorded once, tables hold each day once, and nothing is held any more."""
        days = self._day - 1
        recorded = {name: count for (name, _), count in self.records.days(ENVIRONMENT).items()}
        for number in range(SLEEPERS):
            assert recorded[f"m{number}"] == days, f"m{number} misses days"
            rows = self.records.ask("warehouse", f"SELECT day FROM chaos__{ENVIRONMENT}.m{number} ORDER BY day")
            # The first plan writes its days at once, as one row of their first.
            assert len(rows) == len(set(rows)) == days - (FIRST_DAY - 1) + 1, f"m{number} has {rows}"
        self.records.nothing_is_held()

    def queries(self) -> int:
        """How many of the models' queries the warehouse is at."""
        found = self.records.ask(
            "warehouse",
            "SELECT COUNT(*) FROM pg_stat_activity "
            "WHERE state = 'active' AND query LIKE '%chaos_slept%' AND pid <> pg_backend_pid()",
        )
        return int(found[0][0])
