"""Records the histories that `test_replay.py` replays: `uv run python -m tests.replay.record`.

To be run for a release, not to make a failing replay pass: workflows of the last release are still in flight.
"""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from temporalio.client import Client, WorkflowExecution

from tests.eventually import eventually, eventually_async
from tests.fixtures.stack import RunningStack, running_stack

HISTORIES = Path(__file__).parent / "histories"
CONFIG = """
gateways:
  warehouse:
    scheduler: {type: cloud}
default_gateway: warehouse
model_defaults: {dialect: postgres, start: 2026-01-01, cron: '@daily'}
"""
SLOW = "MODEL (name recorded.m%02d, kind FULL); SELECT %d AS id, CAST(pg_sleep(%s) AS TEXT) AS slept"
DOWNSTREAM = "MODEL (name recorded.sum, kind FULL); SELECT COUNT(*) AS ids FROM recorded.m00"
BROKEN = "MODEL (name recorded.broken, kind FULL); SELECT 1 / (id - id) AS id FROM recorded.m01"


def main() -> None:
    """Plans and runs a project that has units in bundles, a long one, a failing one and what follows it."""
    with TemporaryDirectory(prefix="tm") as folder:
        project = _write(Path(folder) / "project")
        with running_stack(Path(folder) / "data") as stack:
            plan = ("sqlmesh", "-p", str(project), "plan", "prod", "--auto-apply", "--no-prompts")
            planned = stack.tcloud(*plan, "--execution-time", "2026-01-02 12:00:00")
            assert planned.returncode == 0, planned.stdout + planned.stderr
            (project / "models" / "broken.sql").write_text(BROKEN)
            broken = stack.tcloud(*plan, "--skip-backfill", "--execution-time", "2026-01-02 12:00:00")
            assert broken.returncode == 0, broken.stdout + broken.stderr
            started = stack.tcloud(
                *("runs", "start", "--no-follow", "-o", "json", "--end", "2026-01-03"),
                *("--execution-time", "2026-01-04 12:00:00"),
            )
            run_id = json.loads(started.stdout)["run_id"]
            eventually(lambda: json.loads(stack.tcloud("runs", "show", run_id, "-o", "json").stdout)["end_at"], 120)
            asyncio.run(_record(stack, {"run": f"run/{run_id}", "environment": "environment/prod"}))


def _write(project: Path) -> Path:
    (project / "models").mkdir(parents=True)
    (project / "config.yaml").write_text(CONFIG)
    for number in range(40):
        seconds = "1.5" if number == 0 else "0.01"
        (project / "models" / f"m{number:02d}.sql").write_text(SLOW % (number, number, seconds))
    (project / "models" / "sum.sql").write_text(DOWNSTREAM)
    return project


async def _record(stack: RunningStack, workflows: dict[str, str]) -> None:
    client = await stack.temporal()
    await client.get_schedule_handle("schedule/prod/@daily/UTC").trigger()
    found = {
        "plan": await _first(client, "WorkflowType = 'PlanWorkflow'"),
        "tick": await _first(client, "WorkflowType = 'RunWorkflow' AND TempomeshTrigger = 'schedule'"),
        "maintenance": await _first(client, "WorkflowType = 'MaintenanceWorkflow'"),
    }
    for name, workflow_id in {**workflows, **found}.items():
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        recorded = {"workflow_id": workflow_id, "history": json.loads(history.to_json())}
        (HISTORIES / f"{name}.json").write_text(json.dumps(recorded) + "\n")
    secrets = json.loads((stack.data_dir / "secrets.json").read_text())
    (HISTORIES / "keys.json").write_text(json.dumps({"stack": secrets["codec_key"]}) + "\n")


async def _first(client: Client, query: str) -> str:
    """The first workflow of its kind that is over."""

    async def over() -> list[WorkflowExecution]:
        return [w async for w in client.list_workflows(f"{query} AND ExecutionStatus = 'Completed'")]

    return min(await eventually_async(over, 120), key=lambda workflow: workflow.start_time).id


if __name__ == "__main__":
    main()
