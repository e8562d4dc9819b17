"""Environments: what is known of them, which of their models run on a cron, and how they end."""

from typing import cast

import httpx
from sqlmesh.core.audit import StandaloneAudit, load_audit
from sqlmesh.core.dialect import parse
from sqlmesh.core.model import SqlModel, load_sql_based_model
from sqlmesh.core.snapshot import Snapshot, SnapshotChangeCategory

from server.projects import Role
from tests.integration.server.conftest import RunningServer
from tests.integration.server.states import promoted, remote_state, snapshot_of


def snapshot_from(definition: str) -> Snapshot:
    """A categorized snapshot of any model."""
    model = load_sql_based_model(parse(definition), dialect="postgres")
    return categorized(Snapshot.from_node(cast(SqlModel, model), nodes={}))


def standalone_audit() -> Snapshot:
    """A snapshot of an audit that stands on its own cron."""
    audit = load_audit(
        parse("AUDIT (name no_orphans, standalone true, cron '@weekly', dialect postgres); SELECT 1 FROM db.trips"),
        dialect="postgres",
    )
    return categorized(Snapshot.from_node(cast(StandaloneAudit, audit), nodes={}))


def categorized(snapshot: Snapshot) -> Snapshot:
    snapshot.categorize_as(SnapshotChangeCategory.BREAKING)
    return snapshot


def test_crons_are_of_what_sqlmesh_evaluates_on_a_cron(executor: httpx.Client, worker: httpx.Client) -> None:
    promoted(
        executor,
        [
            snapshot_of("trips"),
            snapshot_of("rides", "@daily", "Europe/Paris"),
            snapshot_from("MODEL (name db.view, kind VIEW, cron '@hourly'); SELECT 1 AS id"),
            snapshot_from("MODEL (name db.part, kind EMBEDDED, cron '@hourly'); SELECT 1 AS id"),
            standalone_audit(),
        ],
        "plan-1",
    )
    groups = worker.get("environments/prod/crons").json()
    assert [(group["cron"], group["timezone"], len(group["models"])) for group in groups] == [
        ("@daily", "Europe/Paris", 1),
        ("@daily", "UTC", 1),
        ("@hourly", "UTC", 1),
        ("@weekly", "UTC", 1),
    ]
    assert "view" in groups[2]["models"][0]


def test_prod_ticks_when_models_are_to_be_restated(executor: httpx.Client, worker: httpx.Client) -> None:
    kind = "INCREMENTAL_BY_TIME_RANGE (time_column ds, auto_restatement_cron '0 6 * * *'"
    restated = [
        snapshot_from(
            f"MODEL (name db.{name}, kind {kind}{more}), cron '@daily', cron_tz 'Europe/Paris'); SELECT 1 AS ds"
        )
        for name, more in (("restated", ""), ("never", ", disable_restatement true"))
    ]
    for number, environment in enumerate(("prod", "dev")):
        promoted(executor, restated, f"plan-{number}", name=environment)
    # Only in prod does SQLMesh restate by itself, and it reads the cron of that in UTC.
    found = {
        environment: [
            (group["cron"], group["timezone"], [name.split('"')[-2] for name in group["models"]])
            for group in worker.get(f"environments/{environment}/crons").json()
        ]
        for environment in ("prod", "dev")
    }
    own = ("@daily", "Europe/Paris", ["never", "restated"])
    assert found == {"prod": [("0 6 * * *", "UTC", ["restated"]), own], "dev": [own]}


def test_an_environment_that_does_not_exist(admin: httpx.Client, worker: httpx.Client) -> None:
    for client, path in ((admin, "environments/nowhere"), (worker, "environments/nowhere/crons")):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "TM-ENVIRONMENT")
    assert admin.post("environments/nowhere/invalidate").status_code == 404


def test_production_cannot_be_invalidated(server: RunningServer, executor: httpx.Client) -> None:
    promoted(executor, [snapshot_of("trips")], "plan-1")
    with server.client(Role.DEVELOPER) as developer, server.client(Role.VIEWER) as viewer:
        refused = developer.post("environments/prod/invalidate")
        assert (refused.status_code, refused.json()["error_type"]) == (422, "SQLMeshError")
        assert viewer.post("environments/prod/invalidate").status_code == 403
        (prod,) = viewer.get("environments").json()
    assert (prod["name"], prod["status"], prod["plan_id"]) == ("prod", "ready", "plan-1")


def test_an_invalidated_environment_is_gone_from_the_listing(executor: httpx.Client, admin: httpx.Client) -> None:
    promoted(executor, [snapshot_of("trips")], "plan-1", name="dev")
    (dev,) = admin.get("environments").json()
    assert (dev["name"], dev["next_run_at"]) == ("dev", None)
    assert admin.post("environments/dev/invalidate").status_code == 204
    assert admin.get("environments").json() == []


def test_a_tick_with_nothing_due_leaves_nothing(
    executor: httpx.Client, worker: httpx.Client, admin: httpx.Client
) -> None:
    tick = "prod-2026-01-01T00:00:00Z"
    executor.post(f"runs/{tick}/begin", json={"environment": "prod", "trigger": "schedule"}).raise_for_status()
    assert admin.get(f"runs/{tick}").json()["status"] == "in_progress"
    worker.post(f"runs/{tick}/status", json={"status": "nothing_to_do"}).raise_for_status()
    assert admin.get("runs").json() == []
    worker.post(f"runs/{tick}/status", json={"status": "nothing_to_do"}).raise_for_status()


def test_a_run_that_failed_before_it_began_is_recorded(worker: httpx.Client, admin: httpx.Client) -> None:
    tick = "prod-2026-01-01T00:00:00Z"
    report = {"status": "failed", "error_message": "No executor took it."}
    worker.post(f"runs/{tick}/status", json=report).raise_for_status()
    run = admin.get(f"runs/{tick}").json()
    assert (run["environment"], run["trigger"], run["status"]) == ("prod", "schedule", "failed")
    assert worker.post("runs/whatever/status", json=report).status_code == 404


def wanted(worker: httpx.Client) -> list[str]:
    """The environments whose schedules there should be."""
    return [found["environment"] for found in worker.post("schedules/wanted").raise_for_status().json()]


def test_production_is_scheduled_and_others_are_when_somebody_says_so(
    server: RunningServer, executor: httpx.Client, worker: httpx.Client
) -> None:
    promoted(executor, [snapshot_of("trips")], "plan-1")
    promoted(executor, [snapshot_of("trips")], "plan-2", name="dev")
    assert wanted(worker) == ["prod"]
    with server.client(Role.DEVELOPER) as developer:
        dev = developer.post("environments/dev/schedule").raise_for_status().json()
        assert (dev["scheduled"], dev["scheduled_by"]) == (True, "developer")
        assert dev["next_run_at"] is not None
        assert wanted(worker) == ["dev", "prod"]
        with server.client(Role.ADMIN) as admin:
            # Who agrees does not become the author.
            assert admin.post("environments/dev/schedule").json()["scheduled_at"] == dev["scheduled_at"]
        prod = developer.post("environments/prod/unschedule").raise_for_status().json()
        assert (prod["scheduled"], prod["next_run_at"]) == (False, None)
        assert wanted(worker) == ["dev"]
        assert [found["scheduled"] for found in developer.get("environments").json()] == [True, False]
        assert developer.post("environments/nowhere/schedule").status_code == 404


def test_an_environment_that_is_gone_takes_the_decision_along(
    executor: httpx.Client, worker: httpx.Client, admin: httpx.Client
) -> None:
    promoted(executor, [snapshot_of("trips")], "plan-1", name="dev")
    admin.post("environments/dev/schedule").raise_for_status()
    assert wanted(worker) == ["dev"]
    admin.post("environments/dev/invalidate").raise_for_status()
    assert admin.post("environments/dev/schedule").json()["code"] == "TM-ENVIRONMENT"
    assert wanted(worker) == []
    remote_state(executor).delete_expired_environments()
    promoted(executor, [snapshot_of("trips")], "plan-2", name="dev")
    assert wanted(worker) == []
