"""Runs, their evaluations and a model's history are read from records: this server's Temporal does not answer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from server.runs import abort_run, begin_run, set_run_status
from server.schema import evaluations, plans, runs
from tcloud.wire.runs import RunTrigger
from tcloud.wire.statuses import Status
from tests.integration.server.conftest import PROJECT, RunningServer, report_gateway
from tests.integration.server.states import promoted, snapshot_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORDERS = '"warehouse"."db"."orders"'
TOTALS = '"warehouse"."db"."totals"'


def record_run(
    server: RunningServer,
    run_id: str,
    hours: int,
    status: str = "success",
    environment: str = "prod",
    trigger: RunTrigger = RunTrigger.SCHEDULE,
) -> None:
    """Records a run that started so many hours after noon and ended."""
    with server.database.transaction(PROJECT) as transaction:
        begin_run(transaction, run_id, environment, trigger)
        set_run_status(transaction, run_id, status, None)
        at = NOON + timedelta(hours=hours)
        transaction.connection.execute(update(runs).where(runs.c.run_id == run_id).values(start_at=at, end_at=at))


def record_plan(server: RunningServer, plan_id: str, environment: str = "prod") -> None:
    with server.database.transaction(PROJECT) as transaction:
        transaction.connection.execute(
            plans.insert().values(
                project=PROJECT.namespace,
                plan_id=plan_id,
                environment=environment,
                status="success",
                created_by="x",
                gateway="warehouse",
                default_catalog="warehouse",
            )
        )


def record_evaluation(
    server: RunningServer, owner_id: str, model: str, hours: int, *, kind: str = "run", **more: Any
) -> str:
    evaluation_id = f"{owner_id}-{model.split('.')[-1]}-{hours}"
    at = NOON + timedelta(hours=hours)
    recorded = {
        "status": "success",
        "start_at": at,
        "end_at": at + timedelta(seconds=2),
        "log": f"log of {evaluation_id}",
        **more,
    }
    with server.database.transaction(PROJECT) as transaction:
        transaction.connection.execute(
            evaluations.insert().values(
                project=PROJECT.namespace,
                evaluation_id=evaluation_id,
                execution_id=owner_id,
                unit=hours,
                owner_kind=kind,
                owner_id=owner_id,
                kind="evaluate",
                model=model,
                identifier="1",
                version="1",
                attempt=1,
                executor="run@here",
                **recorded,
            )
        )
    return evaluation_id


@pytest.fixture
def recorded(server: RunningServer) -> None:
    """Five runs of two environments, a plan, and evaluations of two models."""
    record_plan(server, "p1")
    record_run(server, "prod-1", 1)
    record_run(server, "prod-2", 2, "failed")
    record_run(server, "prod-3", 3, trigger=RunTrigger.MANUAL)
    record_run(server, "dev-4", 4, "failed", "dev", RunTrigger.MANUAL)
    record_run(server, "prod-5", 5, "aborted")
    record_evaluation(server, "p1", ORDERS, 0, kind="plan")
    record_evaluation(server, "prod-1", ORDERS, 1)
    record_evaluation(server, "prod-2", ORDERS, 2, status="failed", error_message="division by zero")
    skipped: dict[str, Any] = {"status": "skipped", "start_at": None, "end_at": NOON + timedelta(hours=3), "log": None}
    record_evaluation(server, "prod-2", TOTALS, 3, **skipped, error_message="Upstream model failed.")
    record_evaluation(server, "dev-4", ORDERS, 4)


def ids(admin: httpx.Client, **params: Any) -> list[str]:
    return [run["run_id"] for run in admin.get("runs", params=params).raise_for_status().json()]


@pytest.mark.usefixtures("recorded")
def test_filters(admin: httpx.Client) -> None:
    assert ids(admin) == ["prod-5", "dev-4", "prod-3", "prod-2", "prod-1"]
    assert ids(admin, environment="prod", limit=2) == ["prod-5", "prod-3"]
    assert ids(admin, status="failed") == ["dev-4", "prod-2"]
    assert ids(admin, status=["failed", "aborted"], environment="prod") == ["prod-5", "prod-2"]
    assert ids(admin, trigger="manual") == ["dev-4", "prod-3"]
    assert ids(admin, since="2026-03-01T14:00:00Z", until="2026-03-01T16:00:00") == ["prod-3", "prod-2"]
    assert ids(admin, since="2026-03-01T17:00:00+02:00") == ["prod-5", "dev-4", "prod-3"]
    for name in ("db.totals", "warehouse.db.totals", TOTALS, "DB.Totals"):
        assert ids(admin, model=name) == ["prod-2"], name
    assert ids(admin, model="db.orders", status="success") == ["prod-1"]
    assert ids(admin, model="db.nothing") == []
    for wrong in ({"status": "broken"}, {"trigger": "x"}, {"since": "soon"}, {"limit": 0}, {"model": "a.'"}):
        answer = admin.get("runs", params=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "TM-REQUEST"), wrong


@pytest.mark.usefixtures("recorded")
def test_pages(server: RunningServer, admin: httpx.Client) -> None:
    record_run(server, "prod-5b", 5)
    first = ids(admin, limit=2)
    second = ids(admin, limit=2, before=first[-1])
    third = ids(admin, limit=2, before=second[-1])
    assert first + second + third == ids(admin)
    assert ids(admin, before=third[-1]) == []
    assert admin.get("runs", params={"before": "nosuch"}).json()["code"] == "TM-RUN"


@pytest.mark.usefixtures("recorded")
def test_the_history_of_a_model(admin: httpx.Client) -> None:
    def history(**params: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            admin.get("evaluations", params={"model": "db.orders", **params}).raise_for_status().json()
        )
        return found

    all_of_it = history()
    assert [(e["run_id"], e["plan_id"], e["environment"]) for e in all_of_it] == [
        ("dev-4", None, "dev"),
        ("prod-2", None, "prod"),
        ("prod-1", None, "prod"),
        (None, "p1", "prod"),
    ]
    assert {e["log"] for e in all_of_it} == {None}
    assert (all_of_it[1]["status"], all_of_it[1]["error_message"]) == ("failed", "division by zero")
    assert history(environment="dev") == all_of_it[:1]
    page = history(limit=2)
    assert page + history(before=page[-1]["evaluation_id"]) == all_of_it
    (left_out,) = history(model="db.totals")
    assert (left_out["status"], left_out["start_at"]) == ("skipped", None)


def test_a_model_that_nobody_knows(admin: httpx.Client, executor: httpx.Client) -> None:
    answer = admin.get("evaluations", params={"model": "db.orders"})
    assert (answer.status_code, answer.json()["code"]) == (404, "TM-MODEL")
    report_gateway(executor)
    promoted(executor, [snapshot_of("orders")], "p1")
    # It is in an environment, and was never evaluated.
    assert admin.get("evaluations", params={"model": "db.orders"}).raise_for_status().json() == []
    assert admin.get("evaluations/nosuch").json()["code"] == "TM-EVALUATION"


@pytest.mark.usefixtures("recorded")
def test_logs(admin: httpx.Client) -> None:
    found = admin.get("runs/prod-2/evaluations").raise_for_status().json()
    assert [e["model"] for e in found] == [ORDERS, TOTALS]
    (of_orders,) = admin.get("runs/prod-2/evaluations", params={"model": "db.orders"}).json()
    assert of_orders["log"] == f"log of {of_orders['evaluation_id']}"
    assert admin.get(f"evaluations/{of_orders['evaluation_id']}").json() == {**of_orders, "environment": "prod"}
    assert admin.get("runs/nosuch/evaluations").json()["code"] == "TM-RUN"


def test_what_an_executor_left_in_the_middle_is_aborted_everywhere(server: RunningServer, admin: httpx.Client) -> None:
    record_plan(server, "p1")
    record_run(server, "prod-1", 1)
    lost: dict[str, Any] = {"status": "in_progress", "end_at": None, "lease_expires_at": NOON}
    identity = record_evaluation(server, "prod-1", ORDERS, 1, **lost)
    (listed,) = admin.get("runs/prod-1").json()["evaluations"]
    (remembered,) = admin.get("evaluations", params={"model": "db.orders"}).json()
    assert (
        listed["status"] == remembered["status"] == admin.get(f"evaluations/{identity}").json()["status"] == "aborted"
    )


def test_who_cancelled_a_run_is_recorded_whoever_is_first(server: RunningServer) -> None:
    for run_id, workflow_first in (("prod-1", True), ("prod-2", False)):
        with server.database.transaction(PROJECT) as transaction:
            begin_run(transaction, run_id, "prod", RunTrigger.MANUAL)
            if workflow_first:
                set_run_status(transaction, run_id, Status.ABORTED, "The run was cancelled.")
            run = abort_run(transaction, run_id, "Cancelled by ada.")
        assert (run.status, run.error_message) == (Status.ABORTED, "Cancelled by ada.")


@pytest.mark.usefixtures("recorded")
def test_a_run_that_is_over_is_not_cancelled_afterwards(server: RunningServer) -> None:
    with server.database.transaction(PROJECT) as transaction:
        assert abort_run(transaction, "prod-1", "Cancelled by ada.").status is Status.SUCCESS


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"start": "nonsense"}, "start: 'nonsense' is not a time"),
        ({"execution_time": "the other day"}, "execution_time: "),
        ({"start": "2026-03-02", "end": "2026-03-01"}, "can't be greater than"),
    ],
)
def test_times_that_mean_nothing_start_nothing(
    admin: httpx.Client, executor: httpx.Client, options: dict[str, str], says: str
) -> None:
    promoted(executor, [snapshot_of("orders")], "p1")
    answer = admin.post("runs", json={"environment": "prod", **options})
    assert (answer.status_code, answer.json()["code"]) == (422, "TM-REQUEST")
    assert says in answer.json()["message"]
    assert ids(admin) == []
