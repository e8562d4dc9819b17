"""The public API, as tools read it that mirror runs elsewhere."""

from typing import Any

import httpx
import pytest
from sqlmesh.core.snapshot import Snapshot

from tcloud.wire.runs import Audit
from tcloud.wire.statuses import Status
from tests.integration.server.conftest import RunningServer
from tests.integration.server.states import promoted, snapshot_of
from tests.integration.server.test_units import finish, prepare_run, start


@pytest.fixture
def snapshots(executor: httpx.Client) -> list[Snapshot]:
    found = [snapshot_of("trips", cron="@hourly"), snapshot_of("stations")]
    promoted(executor, found, "plan-1")
    return found


def get(client: httpx.Client, path: str, **params: Any) -> Any:
    return client.get(f"v1/{path}", params=params).raise_for_status().json()


def test_the_graph_of_an_environment(server: RunningServer, admin: httpx.Client, snapshots: list[Snapshot]) -> None:
    dag = get(admin, "dags/prod")
    assert (dag["environment"], dag["schedule_cron"], dag["schedule_seconds"]) == ("prod", "@hourly", 3600)
    assert dag["start_at"] == "2024-01-01T00:00:00Z"
    assert dag["link"] == f"{server.url}/environments/prod"
    nodes = {node["name"]: node for node in dag["nodes"]}
    assert nodes.keys() == {snapshot.name for snapshot in snapshots}
    trips = nodes[snapshots[0].name]
    assert (trips["model_name"], trips["type"], trips["source_type"]) == ("db.trips", "model", "sql")
    assert trips["link"].endswith(f"?version={snapshots[0].version}")
    missing = admin.get("v1/dags/nowhere")
    assert missing.status_code == 404
    assert missing.json()["detail"] == missing.json()["message"]


def test_runs_and_evaluations(
    server: RunningServer, executor: httpx.Client, worker: httpx.Client, admin: httpx.Client, snapshots: list[Snapshot]
) -> None:
    trips = snapshots[0]
    for run_id in ("prod-1", "prod-2"):
        prepare_run(executor, trips, run_id, units=1)
        audits = [Audit(name="not_null", status=Status.SUCCESS, blocking=True, count=0).model_dump()]
        finish(executor, start(executor, run_id), trips, audits=audits, log="it ran").raise_for_status()
        worker.post(f"runs/{run_id}/status", json={"status": "success"}).raise_for_status()

    assert [run["run_id"] for run in get(admin, "runs", environment="prod")] == ["prod-2", "prod-1"]
    assert [run["run_id"] for run in get(admin, "runs", sort="asc")] == ["prod-1", "prod-2"]
    assert [run["run_id"] for run in get(admin, "runs", last="true")] == ["prod-2"]
    assert [run["run_id"] for run in get(admin, "runs", since_run_id="prod-1")] == ["prod-2"]
    assert get(admin, "runs", environment="dev") == []
    one = get(admin, "runs/prod-1")
    assert (one["status"], one["environment"]) == ("success", "prod")
    assert one["link"] == f"{server.url}/environments/prod/runs/prod-1?tab=summary&tab_summary=executions"

    (evaluation,) = get(admin, "runs/prod-1/evaluations", node_name=trips.name)
    assert (evaluation["run_id"], evaluation["node_name"], evaluation["log"]) == ("prod-1", trips.name, "it ran")
    assert evaluation["log_link"].startswith(f"{server.url}/environments/prod/runs/prod-1?tab=explore&model_name=")
    assert evaluation["log_link"].endswith("&tab_evaluation=log")
    (audit,) = evaluation["audits"]
    assert (audit["name"], audit["status"], audit["interval_start"]) == ("not_null", "success", "2024-01-01T00:00:00Z")
    assert get(admin, "runs/prod-1/evaluations", node_name=snapshots[1].name) == []

    both = get(admin, "evaluations", environment="prod")
    assert [found["run_id"] for found in both] == ["prod-1", "prod-2"]
    (latest,) = get(admin, "evaluations", environment="prod", latest="true")
    assert latest == both[1]
    assert get(admin, "evaluations", run_id="prod-1") == [both[0]]
    assert get(admin, "evaluations", plan_id="prod-1") == []
    assert [found["run_id"] for found in get(admin, "evaluations", sort="desc", limit=1)] == ["prod-2"]
    assert get(admin, f"evaluations/{evaluation['evaluation_id']}") == evaluation
