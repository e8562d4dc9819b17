"""Notifications that a project configures, from `tcloud dev --project` to a mail server: each once."""

import json
from pathlib import Path

import pytest
import yaml

from tests.eventually import eventually
from tests.fixtures.mail import mail_server
from tests.fixtures.stack import running_stack

pytestmark = pytest.mark.timeout(400)

MODEL = """
MODEL (name told.orders, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '@daily',
  audits (number_of_rows(threshold := 10, blocking := false)));
SELECT @start_ds::DATE AS ds, 1 AS id
"""
SLOW = """
MODEL (name told.slow, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '@daily');
SELECT @start_ds::DATE AS ds, SUM(RANDOM()) AS id FROM RANGE(@IF(@start_ds > '2025-01-04', 10000000000000, 1))
"""
BROKEN = "MODEL (name told.broken, kind FULL); SELECT ERROR('it is broken') AS id"
SENDER = "tempomesh@example.com"


def test_plans_and_runs_are_told_of_by_executors(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "models" / "orders.sql").write_text(MODEL)
    (project / "models" / "slow.sql").write_text(SLOW)
    with mail_server(tmp_path) as mailbox:
        target = {
            "type": "smtp",
            "host": "127.0.0.1",
            "port": mailbox.port,
            "user": "me",
            "password": "a-secret",
            "sender": SENDER,
            "recipients": ["team@example.com"],
            "notify_on": [f"{of}_{what}" for of in ("apply", "run") for what in ("start", "end", "failure")]
            + ["audit_failure"],
        }
        config = {
            "gateways": {
                "local": {
                    "connection": {"type": "duckdb", "database": "local.duckdb"},
                    "scheduler": {"type": "cloud"},
                }
            },
            "model_defaults": {"dialect": "duckdb", "start": "2025-01-01"},
            "notification_targets": [target],
        }
        (project / "config.yaml").write_text(yaml.safe_dump(config))
        with running_stack(tmp_path / "stack", "--project", str(project)) as stack:
            planned = stack.tcloud(
                *("sqlmesh", "-p", str(project), "plan", "dev", "--auto-apply", "--no-prompts"),
                *("--include-unmodified", "--execution-time", "2025-01-03 12:00:00"),
            )
            assert planned.returncode == 0, planned.stdout + planned.stderr
            (plan,) = json.loads(stack.tcloud("plans", "list", "-o", "json").stdout)
            told = f"Plan `{plan['plan_id']}` apply {{}} for environment `dev`."
            eventually(lambda: len(mailbox.texts) == 3)
            assert [text.splitlines()[0] for _, text in mailbox.texts] == [
                told.format("started"),
                "Audit failure.",
                told.format("finished"),
            ]
            mailbox.texts.clear()

            ran = stack.tcloud(
                *("runs", "start", "--environment", "dev"),
                *("--end", "2025-01-04", "--execution-time", "2025-01-05 12:00:00"),
            )

            assert ran.returncode == 0, ran.stdout + ran.stderr
            eventually(lambda: len(mailbox.texts) == 3)
            assert [text.splitlines()[0] for _, text in mailbox.texts] == [
                "SQLMesh run started for environment `dev`.",
                "Audit failure.",
                "SQLMesh run finished for environment `dev`.",
            ]
            mailbox.texts.clear()

            started = stack.tcloud(
                *("runs", "start", "--environment", "dev", "--no-follow", "-o", "json"),
                *("--end", "2025-01-05", "--execution-time", "2025-01-06 12:00:00"),
            )
            run_id = json.loads(started.stdout)["run_id"]

            def is_evaluating() -> bool:
                shown = json.loads(stack.tcloud("runs", "show", run_id, "-o", "json").stdout)
                return any(e["status"] == "in_progress" and "slow" in e["model"] for e in shown["evaluations"])

            eventually(is_evaluating, 60)
            assert stack.tcloud("runs", "cancel", run_id).returncode == 0
            failure = f"SQLMesh run failed.\nRun {run_id} of environment 'dev': Cancelled by "
            eventually(lambda: any(text.startswith(failure) for _, text in mailbox.texts), 60)
            mailbox.texts.clear()

            (project / "models" / "broken.sql").write_text(BROKEN)
            broken = stack.tcloud(
                *("sqlmesh", "-p", str(project), "plan", "dev", "--auto-apply", "--no-prompts"),
                *("--execution-time", "2025-01-03 12:00:00"),
            )
            assert broken.returncode == 1, broken.stdout + broken.stderr
            eventually(lambda: len(mailbox.texts) == 2)
            failed = [text.splitlines() for _, text in mailbox.texts][1]
            assert failed[0].endswith("` in environment `dev` apply failed."), failed
            assert failed[1:] == ["Plan application failed."]
