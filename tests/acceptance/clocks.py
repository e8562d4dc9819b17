"""A project that is due every five minutes, and the check that a run took what was due, by the world's clock."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.acceptance.projects import scheduled_config
from tests.fixtures.records import Records
from tests.fixtures.stack import RunningStack

__all__ = ["Clocks"]

STEP = 300
MODEL = """
MODEL (name %s.m, kind INCREMENTAL_BY_TIME_RANGE (time_column at), cron '*/5 * * * *');
SELECT @start_ts::TIMESTAMP AS at
"""


class Clocks:
    """The project on a stack.

    Args:
        stack: A stack that is ready.
        folder: An empty folder for the project.
        name: Of its environment and its schema.
    """

    def __init__(self, stack: RunningStack, folder: Path, name: str):
        self._stack = stack
        self._project = folder
        self._name = name

    def plan(self) -> None:
        """Plans and applies the project as it would have been an hour ago."""
        now = datetime.now(UTC)
        (self._project / "models").mkdir(parents=True)
        (self._project / "config.yaml").write_text(scheduled_config(f"{now - timedelta(days=2):%Y-%m-%d}"))
        (self._project / "models" / "m.sql").write_text(MODEL % self._name)
        planned = self._stack.tcloud(
            *("sqlmesh", "-p", str(self._project), "plan", self._name, "--auto-apply", "--no-prompts"),
            *("--include-unmodified", "--execution-time", f"{now - timedelta(hours=1):%Y-%m-%d %H:%M:%S}"),
        )
        assert planned.returncode == 0, planned.stdout + planned.stderr

    def start_run(self) -> str:
        """Starts a run of what is due now."""
        started = self._stack.tcloud("runs", "start", "--environment", self._name, "--no-follow", "-o", "json")
        assert started.returncode == 0, started.stderr
        return str(json.loads(started.stdout)["run_id"])

    def check(self, run: dict[str, Any]) -> None:
        """All that was due when the run was prepared is recorded, and nothing that was not."""
        assert run["status"] == "success", run
        (intervals,) = Records(self._stack).intervals(self._name).values()
        last = max(end for _, end in intervals) // 1000
        moments = (datetime.fromisoformat(run[name]).timestamp() for name in ("start_at", "end_at"))
        assert last in {int(moment // STEP * STEP) for moment in moments}, datetime.fromtimestamp(last, UTC)
