"""Notifications that a project configures, sent by runner processes to a real mail server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmesh.core import constants
from sqlmesh.core.console import get_console, set_console
from sqlmesh.utils.errors import ConfigError

from tempomesh_runner.configuration import config_from_environment
from tests.fixtures.mail import Mailbox, mail_server
from tests.integration.runner.both import one_file
from tests.integration.runner.projects import Project
from tests.integration.runner.sides import Driven

ORDERS = """
MODEL (name shop.orders, kind FULL, owner ada, audits (
  number_of_rows(threshold := 10, blocking := false),
  not_null(columns := (id))
));
SELECT 1 AS id
"""
PROJECT = Project({"models/orders.sql": ORDERS}, {"model_defaults": {"dialect": "duckdb", "start": "2025-01-01"}})


def target(mailbox: Mailbox, recipient: str, *events: str) -> dict[str, Any]:
    return {
        "type": "smtp",
        "host": "127.0.0.1",
        "port": mailbox.port,
        "user": "tempomesh",
        "password": "a-secret",
        "sender": "tempomesh@example.com",
        "recipients": [recipient],
        "notify_on": list(events),
    }


class Notifying(Driven):
    """Whose runner processes are told whom to notify."""

    variables: dict[str, str]

    def call(self, task: str, **arguments: Any) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as environment:
            for name, value in self.variables.items():
                environment.setenv(name, value)
            return super().call(task, **arguments)


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    with mail_server(tmp_path) as mailbox:
        yield mailbox


@pytest.fixture
def side(tmp_path: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notifying]:
    monkeypatch.setattr(constants, "MAX_FORK_WORKERS", 1)
    console = get_console()
    folder = tmp_path / "project"
    folder.mkdir()
    side = Notifying(folder, one_file(folder))
    team = target(mailbox, "team@example.com", "audit_failure", "run_start", "run_failure")
    ada = target(mailbox, "ada@example.com", "audit_failure")
    side.variables = {
        "SQLMESH__NOTIFICATION_TARGETS": json.dumps([team]),
        "SQLMESH__USERS": json.dumps([{"username": "ada", "email": "ada@example.com", "notification_targets": [ada]}]),
    }
    PROJECT.write(folder, {name: warehouse.connection for name, warehouse in side.warehouses.items()})
    yield side
    set_console(console)


def test_an_audit_that_fails_in_a_plan_is_told_to_all_and_to_the_owner(side: Notifying, mailbox: Mailbox) -> None:
    assert side.plan("prod", execution_time="2025-01-06 12:00:00") is None
    assert sorted(recipient for recipient, _ in mailbox.texts) == ["ada@example.com", "team@example.com"]
    for _, text in mailbox.texts:
        assert text.startswith("Audit failure.\n'number_of_rows' audit error")


def test_runs_are_told_by_their_own_task(side: Notifying, mailbox: Mailbox) -> None:
    assert side.call("describe_gateways")["notifies_of"] == ["run"]
    side.call("notify", event="run_start", details={"environment": "prod"})
    side.call("notify", event="run_end", details={"environment": "prod"})
    side.call("notify", event="run_failure", details={"exc": "Run prod-1: it failed."})
    assert mailbox.texts == [
        ("team@example.com", "SQLMesh run started for environment `prod`."),
        ("team@example.com", "SQLMesh run failed.\nRun prod-1: it failed."),
    ]


def test_who_cannot_be_reached_stops_nobodys_work(side: Notifying, mailbox: Mailbox) -> None:
    nobody = {**target(mailbox, "team@example.com", "audit_failure"), "port": 1}
    side.variables = {"SQLMESH__NOTIFICATION_TARGETS": json.dumps([nobody])}
    assert side.plan("prod", execution_time="2025-01-06 12:00:00") is None
    warnings = [event["payload"]["short_message"] for event in side.events if event["type"] == "log_warning"]
    assert "smtp was not notified of audit_failure: ConnectionRefusedError" in warnings


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{", "SQLMESH__NOTIFICATION_TARGETS is not JSON: "),
        ('[{"type": "smtp", "port": "a-secret"}]', "SQLMESH__NOTIFICATION_TARGETS: 0.smtp.port: Input should be"),
        ("{}", "SQLMESH__NOTIFICATION_TARGETS: it: Input should be a valid list"),
    ],
)
def test_what_is_malformed_is_said_without_its_secrets(text: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLMESH__NOTIFICATION_TARGETS", text)
    with pytest.raises(ConfigError) as caught:
        config_from_environment()
    assert str(caught.value).startswith(says)
    assert "a-secret" not in str(caught.value)
