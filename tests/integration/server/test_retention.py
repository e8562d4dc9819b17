"""Events and documents of what is long over are thrown away; records, and what is not over, stay."""

from datetime import UTC, datetime, timedelta

import httpx
from sqlalchemy import func, select, update

from server.documents import DocumentKind, put_document
from server.events import append_events
from server.retention import expire
from server.runs import begin_run, set_run_status
from server.schema import documents, events, executors, plans, runs
from tcloud.wire.executions import ConsoleEvent
from tcloud.wire.runs import RunTrigger
from tests.integration.server.conftest import PROJECT, RunningServer, report_gateway

MONTH = timedelta(days=30)
EVENT = ConsoleEvent(type="log_success", payload={"message": "done"})


def begin(server: RunningServer, run_id: str, ended: timedelta | None) -> None:
    """Records a run with an event and documents; `ended` is how long ago it ended, None if it goes on."""
    with server.database.transaction(PROJECT) as transaction:
        begin_run(transaction, run_id, "prod", RunTrigger.MANUAL)
        put_document(transaction, DocumentKind.EXECUTION, run_id, b"{}")
        put_document(transaction, DocumentKind.OUTCOME, run_id, b"{}")
        append_events(transaction, run_id, [EVENT, EVENT])
        if ended is not None:
            set_run_status(transaction, run_id, "success", None)
            transaction.connection.execute(
                update(runs).where(runs.c.run_id == run_id).values(end_at=datetime.now(UTC) - ended)
            )
        transaction.connection.execute(update(documents).values(created_at=datetime.now(UTC) - 2 * MONTH))


def owners_of_events(server: RunningServer) -> set[str]:
    with server.database.transaction(PROJECT) as transaction:
        return set(transaction.connection.execute(select(events.c.owner_id)).scalars())


def documents_of(server: RunningServer) -> set[tuple[str, str]]:
    with server.database.transaction(PROJECT) as transaction:
        found = transaction.connection.execute(select(documents.c.kind, documents.c.document_id))
        return {(row.kind, row.document_id) for row in found}


def test_what_is_long_over_is_expired(server: RunningServer, admin: httpx.Client, executor: httpx.Client) -> None:
    begin(server, "prod-old", 2 * MONTH)
    begin(server, "prod-new", timedelta(days=1))
    begin(server, "prod-going-on", None)
    report_gateway(executor)
    with server.database.transaction(PROJECT) as transaction:
        transaction.connection.execute(update(executors).values(last_seen_at=datetime.now(UTC) - 2 * MONTH))
        assert expire(transaction, MONTH) == 1
    with server.database.transaction(PROJECT) as transaction:
        assert expire(transaction, MONTH) == 0
        assert transaction.connection.execute(select(func.count()).select_from(executors)).scalar() == 0
    assert owners_of_events(server) == {"prod-new", "prod-going-on"}
    assert {owner for _, owner in documents_of(server)} == {"prod-new", "prod-going-on"}
    assert {run["run_id"] for run in admin.get("runs").json()} == {"prod-old", "prod-new", "prod-going-on"}
    # Who follows it still learns how it ended.
    assert "event: end" in admin.get("runs/prod-old/events").text


def test_all_documents_of_a_plan_go_with_it(server: RunningServer) -> None:
    with server.database.transaction(PROJECT) as transaction:
        for plan_id, ended in (("p1", 2 * MONTH), ("p2", timedelta(days=1))):
            transaction.connection.execute(
                plans.insert().values(
                    project=PROJECT.namespace,
                    plan_id=plan_id,
                    environment="prod",
                    status="success",
                    created_by="x",
                    gateway="g",
                    end_at=datetime.now(UTC) - ended,
                )
            )
            put_document(transaction, DocumentKind.PLAN, plan_id, b"{}")
            put_document(transaction, DocumentKind.STAGE, f"{plan_id}.0", b"{}")
            put_document(transaction, DocumentKind.EXECUTION, f"{plan_id}.0", b"{}")
            put_document(transaction, DocumentKind.PROMOTION, f"prod.{plan_id}", b"{}")
        put_document(transaction, DocumentKind.UNSCHEDULED, "prod", b"[]")
        transaction.connection.execute(update(documents).values(created_at=datetime.now(UTC) - 2 * MONTH))
    with server.database.transaction(PROJECT) as transaction:
        assert expire(transaction, MONTH) == 1
    assert documents_of(server) == {
        ("plan", "p2"),
        ("stage", "p2.0"),
        ("execution", "p2.0"),
        ("promotion", "prod.p2"),
        ("unscheduled", "prod"),
    }
