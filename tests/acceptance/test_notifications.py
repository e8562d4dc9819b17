"""Notifications that a project configures, from `tcloud dev --project` to a mail server: each once."""

from pathlib import Path

import pytest
import yaml

from tests.eventually import eventually
from tests.fixtures.mail import mail_server
from tests.fixtures.stack import running_stack

pytestmark = [pytest.mark.xdist_group("own-stack"), pytest.mark.timeout(400)]

MODEL = """
MODEL (name told.orders, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '@daily',
  audits (number_of_rows(threshold := 10, blocking := false)));
SELECT @start_ds::DATE AS ds, 1 AS id
"""
SENDER = "tempomesh@example.com"


def test_a_run_is_told_of_by_its_executor(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "models" / "orders.sql").write_text(MODEL)
    with mail_server(tmp_path) as mailbox:
        target = {
            "type": "smtp",
            "host": "127.0.0.1",
            "port": mailbox.port,
            "user": "me",
            "password": "a-secret",
            "sender": SENDER,
            "recipients": ["team@example.com"],
            "notify_on": ["run_start", "run_end", "run_failure", "audit_failure"],
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
            assert [text.splitlines()[0] for _, text in mailbox.texts] == ["Audit failure."]
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
