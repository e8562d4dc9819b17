"""Executors report in; what they serve is what plans may be made for."""

from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import httpx
import pytest
from sqlalchemy import update

from server.errors import ApiError
from server.executors import check_gateway
from server.schema import executors
from tcloud.wire.executors import Bootstrap, ExecutorKind
from tests.integration.server.conftest import CODEC_KEYS, PROJECT, RunningServer, report_gateway
from tests.integration.server.states import promoted, snapshot_of


def silence(server: RunningServer, identity: str, since: timedelta) -> None:
    """Lets an executor's last report be old."""
    with server.database.transaction(PROJECT) as transaction:
        transaction.connection.execute(
            update(executors).where(executors.c.identity == identity).values(last_seen_at=datetime.now(UTC) - since)
        )


def test_gateways_are_those_of_living_executors(
    server: RunningServer, executor: httpx.Client, admin: httpx.Client
) -> None:
    report_gateway(executor)
    report_gateway(executor, "lake", ExecutorKind.RUN)
    assert [gateway["name"] for gateway in admin.get("gateways").json()] == ["lake", "warehouse"]
    silence(server, "run-1", timedelta(minutes=1))
    assert [gateway["name"] for gateway in admin.get("gateways").json()] == ["warehouse"]
    listed = {each["identity"]: each["status"] for each in admin.get("executors").json()}
    assert listed == {"apply-1": "ready", "run-1": "lost"}
    with server.database.transaction(PROJECT) as transaction:
        transaction.connection.execute(update(executors).values(status="stopping"))
    listed = {each["identity"]: each["status"] for each in admin.get("executors").json()}
    assert listed == {"apply-1": "stopping", "run-1": "stopped"}
    silence(server, "run-1", timedelta(hours=2))
    assert [each["identity"] for each in admin.get("executors").json()] == ["apply-1"]


def test_executors_with_another_sqlmesh_do_no_work(
    server: RunningServer, executor: httpx.Client, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report_gateway(executor).json()["sqlmesh_version"] == version("sqlmesh")
    monkeypatch.setattr("server.executors.SQLMESH_VERSION", "99.0.0")
    assert [each["status"] for each in admin.get("executors").json()] == ["outdated"]
    assert admin.get("gateways").json() == []
    with server.database.transaction(PROJECT) as transaction, pytest.raises(ApiError, match=r"server's 99\.0\.0"):
        check_gateway(transaction, "warehouse")


def test_run_executors_are_told_what_to_read(server: RunningServer, executor: httpx.Client) -> None:
    promoted(executor, [snapshot_of("trips")], "plan-1")
    promoted(executor, [snapshot_of("trips")], "plan-2", name="dev")

    told = report_gateway(executor, kind=ExecutorKind.RUN).json()
    assert (told["scheduled"], told["python_environments"]) == ({"prod": "plan-1"}, [])
    assert report_gateway(executor, kind=ExecutorKind.APPLY).json()["scheduled"] == {}


def test_only_machines_learn_of_temporal_and_its_keys(
    executor: httpx.Client, worker: httpx.Client, admin: httpx.Client
) -> None:
    report_gateway(executor)
    for machine in (executor, worker):
        told = Bootstrap.model_validate_json(machine.get("bootstrap").content)
        assert told.temporal is not None
        assert told.temporal.namespace == PROJECT.namespace
        assert told.codec_keys == CODEC_KEYS
    person = Bootstrap.model_validate_json(admin.get("bootstrap").content)
    assert (person.temporal, person.codec_keys) == (None, None)
    assert [gateway.name for gateway in person.gateways] == ["warehouse"]
    assert admin.get("state-sync/enterprise-version").json() == {"version": person.sqlmesh_version}


def test_people_are_no_executors(admin: httpx.Client) -> None:
    assert admin.post("executors", json={}).status_code == 403
