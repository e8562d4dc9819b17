"""Questions to warehouses: who may ask, who gets the answer. Housekeeping and plans, which wait for each other."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select, update
from sqlmesh.core.state_sync.export_import import export_state
from temporalio.client import Client

from server.projects import Project, Role
from server.queries import accept_query, expire_queries
from server.schema import documents, queries
from tcloud.wire.queries import QueryKind, QueryRequest
from tests.fixtures.temporal import TemporalServer
from tests.integration.server.conftest import PROJECT, RunningServer, report_gateway
from tests.integration.server.states import promoted, remote_state, snapshot_of
from tests.integration.server.test_plans import accept

IN_PROGRESS = {"status": "in_progress"}
SUCCESS = {"status": "success"}


def request(kind: QueryKind = QueryKind.FETCH) -> QueryRequest:
    return QueryRequest(query_id=uuid4().hex, kind=kind, gateway="warehouse", arguments={"sql": "SELECT 1"})


def post(client: httpx.Client, asked: QueryRequest) -> httpx.Response:
    return client.post("queries", json=asked.model_dump(mode="json"))


@pytest.fixture
def developer(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client(Role.DEVELOPER) as client:
        yield client


async def test_housekeeping_and_plans_wait_for_each_other(
    scheduled: RunningServer, temporal: TemporalServer, namespace: str
) -> None:
    with (
        scheduled.client(Role.DEVELOPER) as developer,
        scheduled.client(Role.EXECUTOR) as executor,
        scheduled.client(Role.WORKER) as worker,
    ):
        report_gateway(executor)
        with scheduled.database.transaction(Project.parse(namespace)) as transaction:
            accept(transaction, "plan-1")
            accept(transaction, "plan-2")
        assert worker.post("plans/plan-1/status", json=IN_PROGRESS).status_code == 204
        janitor = request(QueryKind.JANITOR)
        assert post(developer, janitor).status_code == 201
        assert post(developer, janitor).json()["query_id"] == janitor.query_id
        another = post(developer, request(QueryKind.CLEANUP))
        assert (another.status_code, another.json()["code"]) == (409, "TM-BUSY")
        begin = f"queries/{janitor.query_id}/begin"
        for _ in range(2):
            waits = worker.post(begin, json={})
            assert (waits.status_code, waits.json()["code"]) == (503, "TM-WAITS")
            assert "plan 'plan-1' of environment 'prod' is being applied" in waits.json()["message"]
        assert worker.post("plans/plan-1/status", json=SUCCESS).status_code == 204
        for _ in range(2):
            assert worker.post(begin, json={}).status_code == 204
        for _ in range(2):
            waits = worker.post("plans/plan-2/status", json=IN_PROGRESS)
            assert (waits.status_code, waits.json()["code"]) == (503, "TM-WAITS")
        # Each was told once what it waits for.
        assert [line for line in events(developer, f"queries/{janitor.query_id}") if "plan-1" in line] != []
        assert developer.get(f"queries/{janitor.query_id}").json()["status"] == "in_progress"
        # Somebody terminates it: nobody is left to say that it is over.
        await (await Client.connect(temporal.address, namespace=namespace)).get_workflow_handle("janitor").terminate()
        assert worker.post("plans/plan-2/status", json=IN_PROGRESS).status_code == 503
        assert worker.post("plans/plan-2/status", json=IN_PROGRESS).status_code == 204
        told = [line for line in events(developer, f"queries/{janitor.query_id}", ended=True) if '"message"' in line]
        assert len(told) == 1
        assert developer.get(f"queries/{janitor.query_id}").json()["status"] == "aborted"


def events(client: httpx.Client, owner: str, *, ended: bool = False) -> list[str]:
    """The lines of an event stream, to its end or to its first event."""
    found = []
    with client.stream("GET", f"{owner}/events") as stream:
        for line in stream.iter_lines():
            found.append(line)
            if line.startswith("data:") and not ended:
                break
    return found


def test_an_answer_is_for_whoever_asked_and_not_for_long(
    server: RunningServer, developer: httpx.Client, executor: httpx.Client, worker: httpx.Client, admin: httpx.Client
) -> None:
    report_gateway(executor)
    asked, unread = request(), request()
    with server.database.transaction(PROJECT) as transaction:
        for each in (asked, unread):
            assert accept_query(transaction, each, each.model_dump_json().encode(), "developer")
            assert not accept_query(transaction, each, b"{}", "developer")
    path = f"queries/{asked.query_id}"
    assert developer.get(f"{path}/answer").status_code == 404
    assert executor.get(f"{path}/question").json()["arguments"] == {"sql": "SELECT 1"}
    assert executor.put(f"{path}/answer", json={"rows": [[1]]}).status_code == 204
    assert executor.put(f"queries/{unread.query_id}/answer", json={"rows": [[2]]}).status_code == 204
    assert worker.post(f"{path}/status", json=SUCCESS).status_code == 204
    assert worker.post(f"{path}/status", json={"status": "failed"}).status_code == 204
    assert admin.get(f"{path}/answer").status_code == 403
    assert admin.delete(path).status_code == 403
    assert developer.get(f"{path}/answer").json() == {"rows": [[1]]}
    assert developer.delete(path).status_code == 204
    assert developer.get(f"{path}/answer").status_code == 404
    assert admin.get(path).json()["status"] == "success"

    with server.database.transaction(PROJECT) as transaction:
        expire_queries(transaction, timedelta(days=1))
        assert len(transaction.connection.execute(select(documents.c.kind)).all()) == 2
        transaction.connection.execute(update(documents).values(created_at=datetime.now(UTC) - timedelta(hours=2)))
        expire_queries(transaction, timedelta(days=1))
        assert list(transaction.connection.execute(select(documents.c.kind)).scalars()) == ["question"]
        transaction.connection.execute(update(queries).values(created_at=datetime.now(UTC) - timedelta(days=3)))
        expire_queries(transaction, timedelta(days=1))
        assert transaction.connection.execute(select(queries.c.query_id)).all() == []


def test_who_may_ask(server: RunningServer, developer: httpx.Client, admin: httpx.Client) -> None:
    nobody = post(developer, request())
    assert (nobody.status_code, nobody.json()["code"]) == (422, "TM-GATEWAY")
    assert post(developer, request(QueryKind.DESTROY)).status_code == 403
    with server.client(Role.OPERATOR) as operator:
        assert post(operator, request()).status_code == 403
    assert post(developer, request(QueryKind.JANITOR)).status_code == 422
    assert post(admin, request()).status_code == 422


def test_a_state_is_imported_as_a_whole_or_not_at_all(
    server: RunningServer, executor: httpx.Client, admin: httpx.Client, worker: httpx.Client, tmp_path: Path
) -> None:
    report_gateway(executor)
    promoted(executor, [snapshot_of("trips")], "plan-0")
    file = tmp_path / "state.json"
    export_state(remote_state(executor), file)
    promoted(executor, [snapshot_of("bikes")], "plan-1", name="dev")

    def names() -> set[str]:
        return {environment.name for environment in remote_state(executor).get_environments()}

    for broken in (file.read_bytes()[:2000], b"{}", b"", b"\xff", file.read_bytes().replace(b'"0.236.4"', b'"0.1.4"')):
        answer = admin.post("state-import", content=broken, params={"replace": True})
        assert (answer.status_code, answer.json()["code"]) == (422, "TM-STATE"), answer.text
        assert len(answer.json()["message"].splitlines()) == 1
        assert names() == {"prod", "dev"}
    assert admin.post("state-import", content=file.read_bytes()).status_code == 204
    assert names() == {"prod", "dev"}
    assert admin.post("state-import", content=file.read_bytes(), params={"replace": True}).status_code == 204
    assert names() == {"prod"}
    with server.database.transaction(PROJECT) as transaction:
        accept(transaction, "plan-3", "plan-0")
    assert worker.post("plans/plan-3/status", json=IN_PROGRESS).status_code == 204
    busy = admin.post("state-import", content=file.read_bytes())
    assert (busy.status_code, busy.json()["code"]) == (409, "TM-BUSY")
    assert "Plan 'plan-3' of environment 'prod' is being applied. Try again after that." in busy.text
