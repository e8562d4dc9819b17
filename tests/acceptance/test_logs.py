"""What the processes log: a line is one JSON document with the ids of what it is about, and never a secret or a row."""

import json
from pathlib import Path

import pytest

from tests.fixtures.databases import Database
from tests.fixtures.stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(400)

PASSWORD = "canary-of-the-gateway"
ROW = "canary-of-a-row"
CONFIG = """
gateways:
  warehouse:
    connection:
      {{type: postgres, host: '{host}', port: {port}, user: {user}, password: {password}, database: {database}}}
    scheduler: {{type: cloud}}
default_gateway: warehouse
model_defaults: {{dialect: postgres, start: 2026-01-01, cron: '@daily'}}
"""
GOOD = "MODEL (name canary.good, kind FULL); SELECT 'canary-of' || '-a-row' AS name"
AUDITED = """
MODEL (name canary.audited, kind FULL, audits (accepted_values(column := name, is_in := ('x'))));
SELECT name FROM canary.good
"""
BROKEN = "MODEL (name canary.broken, kind FULL); SELECT CAST(name AS INT) AS number FROM canary.good"


def logs(stack: RunningStack) -> dict[str, str]:
    """By process."""
    return {path.stem: path.read_text(errors="replace") for path in (stack.data_dir / "logs").iterdir()}


def test_json_with_ids_and_without_secrets_or_rows(tmp_path: Path, database: Database) -> None:
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    connection = {"port": "5432", **database.connection, "password": PASSWORD}
    (project / "config.yaml").write_text(CONFIG.format(**connection))
    (project / "models" / "good.sql").write_text(GOOD)
    with running_stack(tmp_path / "data", "--project", str(project), "--log-json") as stack:
        plan = ("sqlmesh", "-p", str(project), "plan", "--auto-apply", "--no-prompts")
        applied = stack.tcloud(*plan)
        assert applied.returncode == 0, applied.stdout + applied.stderr
        (plan_id,) = [found["plan_id"] for found in json.loads(stack.tcloud("plans", "list", "-o", "json").stdout)]
        for name, model in (("audited", AUDITED), ("broken", BROKEN)):
            (project / "models" / f"{name}.sql").write_text(model)
        failed = stack.tcloud(*plan)
        assert failed.returncode == 1
        assert ROW in failed.stdout, "who planned is told the row that is wrong"
        execution_time = ("--execution-time", "2126-01-01 00:00:00")
        run = json.loads(stack.tcloud("runs", "start", "--ignore-cron", *execution_time, "-o", "json").stdout)
        assert run["status"] == "success", run

        said = logs(stack)
        secrets = [PASSWORD, ROW, *json.loads((stack.data_dir / "secrets.json").read_text()).values()]
        for process, text in said.items():
            for secret in secrets:
                assert secret not in text, process
        lines = {
            process: [json.loads(line) for line in said[process].splitlines()]
            for process in ("server", "worker", "executor-apply", "executor-run")
        }
        for process, documents in lines.items():
            assert documents, process
            for document in documents:
                assert {"event", "level", "timestamp", "logger"} <= document.keys(), process
        ids = {"project": "local.main", "environment": "prod"}
        (submitted,) = [d for d in lines["server"] if d["event"] == "plan_submitted" and d.get("plan_id") == plan_id]
        assert submitted.items() >= {**ids, "by": "admin"}.items()
        applied_units = [d for d in lines["executor-apply"] if d["event"] == "unit_evaluated"]
        assert applied_units[0].items() >= {**ids, "plan_id": plan_id, "status": "success"}.items()
        run_units = [d for d in lines["executor-run"] if d["event"] == "unit_evaluated"]
        assert run_units[0].items() >= {**ids, "run_id": run["run_id"]}.items()
        (scheduled, *_) = [d for d in lines["worker"] if d["event"] == "schedule_set"]
        assert scheduled.items() >= {**ids, "plan_id": plan_id}.items()
