"""Pauses on the whole stack, which is started anew between the steps."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.projects import scheduled_config
from tests.eventually import eventually
from tests.fixtures.records import Records
from tests.fixtures.stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(400)

INCREMENTAL = "kind INCREMENTAL_BY_TIME_RANGE (time_column day)"
MODELS = {
    "orders": f"MODEL (name paused.orders, {INCREMENTAL}, tags [sales]); SELECT @start_ds::DATE AS day",
    "totals": f"MODEL (name paused.totals, {INCREMENTAL}); SELECT day FROM paused.orders "
    "WHERE day BETWEEN @start_ds AND @end_ds",
    "aside": f"MODEL (name paused.aside, {INCREMENTAL}); SELECT @start_ds::DATE AS day",
}


def listing(stack: RunningStack, *arguments: str) -> Any:
    result = stack.tcloud(*arguments, "-o", "json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


async def schedule(stack: RunningStack) -> tuple[bool, str]:
    client = await stack.temporal()
    state = (await client.get_schedule_handle("schedule/prod/@daily/UTC").describe()).schedule.state
    return state.paused, state.note or ""


def caught_up(stack: RunningStack, number: int) -> dict[str, tuple[str, str | None]]:
    """How the models fared in the newest of so many runs that catch up."""
    found = eventually(lambda: catching_up(stack, number), 60)
    run = Records(stack).ended(found[0]["run_id"], 120)
    return {e.model.split('"')[-2]: (e.status, e.error_message) for e in run.evaluations or []}


def catching_up(stack: RunningStack, number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = listing(stack, "runs", "list", "--trigger", "resume")
    return found if len(found) == number else []


def test_a_pause_survives_whatever_is_restarted(tmp_path: Path) -> None:
    project, data_dir = tmp_path / "project", tmp_path / "data"
    (project / "models").mkdir(parents=True)
    (project / "config.yaml").write_text(scheduled_config("2025-01-01"))
    for name, model in MODELS.items():
        (project / "models" / f"{name}.sql").write_text(model)
    plan = ("sqlmesh", "-p", str(project), "plan", "prod", "--auto-apply", "--no-prompts")

    with running_stack(data_dir) as stack:
        ports = stack.ports
        planned = stack.tcloud(*plan, "--execution-time", "2025-01-03 12:00:00")
        assert planned.returncode == 0, planned.stdout + planned.stderr
        paused = listing(stack, "environments", "pause", "prod", "--reason", "warehouse upgrade")
        assert paused["paused"] is True
        refused = stack.tcloud("sqlmesh", "-p", str(project), "run")
        assert refused.returncode == 1
        assert "Environment 'prod' is paused by" in refused.stdout + refused.stderr
        assert "warehouse upgrade" in refused.stdout + refused.stderr

    with running_stack(data_dir, ports=ports) as stack:
        (shown,) = listing(stack, "environments", "show", "prod")["pauses"]
        assert (shown["model"], shown["reason"]) == (None, "warehouse upgrade")
        is_paused, note = asyncio.run(schedule(stack))
        assert (is_paused, "warehouse upgrade" in note) == (True, True)
        # A plan takes no notice, and changes nothing about it.
        (project / "models" / "aside.sql").write_text(MODELS["aside"] + ", 1 AS one")
        planned = stack.tcloud(*plan, "--execution-time", "2025-01-03 12:00:00")
        assert planned.returncode == 0, planned.stdout + planned.stderr
        selection = ("--model", "tag:sales", "--reason", "late files")
        listing(stack, "pauses", "create", *selection)
        resumed = stack.tcloud("environments", "resume", "prod")
        assert resumed.returncode == 0, resumed.stderr
        assert "catches up" in resumed.stderr
        fared = caught_up(stack, 1)
        assert fared["aside"][0] == "success"
        assert fared["orders"][0] == fared["totals"][0] == "skipped"
        assert "late files (pause " in (fared["orders"][1] or "")
        assert "late files (pause " in (fared["totals"][1] or "")
        assert eventually(lambda: not asyncio.run(schedule(stack))[0], 30)
        # It ends while nothing is there to see it.
        listing(stack, "pauses", "create", *selection, "--until", "1s")

    with running_stack(data_dir, ports=ports) as stack:
        assert caught_up(stack, 2) == {"orders": ("success", None), "totals": ("success", None)}
        assert listing(stack, "pauses", "list") == []
        log = [(entry["actor"] == "tempomesh", entry["action"]) for entry in listing(stack, "audit", "list")]
        assert [entry for entry in log if not entry[1].startswith("plan.")] == [
            (True, "model.resume"),
            (False, "model.pause"),
            (False, "environment.resume"),
            (False, "model.pause"),
            (False, "environment.pause"),
        ]
        days = Records(stack).days("paused")
        assert len({days[table] for table in days if table[0] in ("orders", "totals")}) == 1
