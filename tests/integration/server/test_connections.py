"""The vault: what is kept of a connection, for whom it opens, and what stands in the way of adding and deleting one."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from sqlalchemy import select, text

from server.command import server as command
from server.connections import Vault, expire_candidates
from server.projects import Project, Role
from server.rotation import seal_again
from server.schema import connection_candidates, connections, metadata, plans
from server.sealing import KeyRing, SealingError
from tcloud.wire.connections import SealedConnection
from tcloud.wire.executors import ExecutorHeartbeat, ExecutorKind, Gateway
from tests.fixtures.temporal import TemporalServer
from tests.integration.server.conftest import CODEC_KEYS, RunningServer
from tests.integration.server.states import promoted, snapshot_of
from vault.opening import open_envelope

CANARY = "canary-of-the-vault"
CONNECTION = {"type": "postgres", "host": "db", "user": "u", "password": CANARY, "port": 5432, "database": "d"}
ANSWER = {"gateway": {"name": "main", "type": "postgres", "dialect": "postgres", "default_catalog": "d"}}


def candidate(connection: dict[str, Any] = CONNECTION, **more: Any) -> dict[str, Any]:
    return {"query_id": uuid4().hex, "connection": json.dumps(connection), **more}


def beat(executor: httpx.Client, **gateways: str | None) -> str:
    """Lets an executor report gateways with the revisions of their connections; returns the vault's name."""
    heartbeat = ExecutorHeartbeat(
        identity="apply-1",
        kind=ExecutorKind.APPLY,
        host="here",
        version="0.1.0",
        sqlmesh_version="0.236.4",
        gateways=[
            Gateway(name=name, type="postgres", dialect="postgres", revision=revision)
            for name, revision in gateways.items()
        ],
    )
    answer = executor.post("executors", json=heartbeat.model_dump(mode="json")).raise_for_status()
    return str(answer.json()["connections"])


def everything(server: RunningServer, project: Project) -> str:
    """All rows of all of the server's tables."""
    with server.database.transaction(project) as transaction:
        return "".join(
            str(transaction.connection.execute(text(f"SELECT t::text FROM {table.fullname} AS t")).scalars().all())
            for table in metadata.sorted_tables
        )


def record_plan(server: RunningServer, project: Project, plan_id: str, gateway: str) -> None:
    with server.database.transaction(project) as transaction:
        transaction.connection.execute(
            plans.insert().values(
                project=project.namespace,
                plan_id=plan_id,
                environment="prod",
                status="success",
                created_by="x",
                gateway=gateway,
            )
        )


def refused(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert CANARY not in answer.text
    return str(answer.json()["message"])


@pytest.fixture
def clients(scheduled: RunningServer) -> Iterator[dict[Role, httpx.Client]]:
    opened = {role: scheduled.client(role) for role in Role}
    yield opened
    for client in opened.values():
        client.close()


@pytest.mark.xdist_group("temporal")
def test_a_connection_is_kept_once_it_was_tested(
    scheduled: RunningServer, temporal: TemporalServer, namespace: str, clients: dict[Role, httpx.Client]
) -> None:
    project = Project.parse(namespace)
    admin, executor, worker = clients[Role.ADMIN], clients[Role.EXECUTOR], clients[Role.WORKER]
    nothing = beat(executor)

    def tested(path: str, body: dict[str, Any], status: str = "success") -> SealedConnection:
        method = "PUT" if "connection" in body else "POST"
        for _ in range(2):
            asked = admin.request(method, path, json=body)
            assert (asked.status_code, asked.json()["kind"]) == (201, "test_connection"), asked.text
        of_query = f"queries/{body['query_id']}"
        assert CANARY not in executor.get(f"{of_query}/question").text
        found = SealedConnection.model_validate_json(executor.get(f"{of_query}/connection").raise_for_status().content)
        executor.put(f"{of_query}/answer", json=ANSWER).raise_for_status()
        for _ in range(2):
            worker.post(f"{of_query}/status", json={"status": status}).raise_for_status()
        refused(executor.get(f"{of_query}/connection"), 409, "TM-OVER")
        return found

    # Not kept, if the test fails.
    tested("connections/main", candidate(), "failed")
    assert admin.get("connections").json() == []
    assert beat(executor) == nothing

    found = tested("connections/MAIN", candidate())
    sealed, key = base64.b64decode(found.sealed), base64.b64decode(found.data_key.get_secret_value())
    assert open_envelope(sealed, key, project=namespace, gateway="main") == CONNECTION
    (shown,) = admin.get("connections").json()
    assert (shown["gateway"], shown["type"], shown["default_catalog"]) == ("main", "postgres", "d")
    assert shown["executors"] == []
    (held,) = executor.get("sealed-connections").json()["connections"]
    assert base64.b64decode(held["sealed"]) == sealed
    first = beat(executor, main=held["revision"])
    assert first != nothing
    assert admin.get("connections/main").json()["executors"] == ["apply-1"]

    # Another one takes its place, with a revision of its own; to test what is there changes nothing.
    tested("connections/main", candidate({**CONNECTION, "user": "v"}))
    (changed,) = executor.get("sealed-connections").json()["connections"]
    assert changed["revision"] != held["revision"]
    second = beat(executor)
    assert second not in (nothing, first)
    assert tested("connections/main/test", {"query_id": uuid4().hex}).sealed == changed["sealed"]
    assert beat(executor) == second

    assert CANARY not in everything(scheduled, project)
    with scheduled.database.transaction(project) as transaction:
        assert transaction.connection.execute(select(connection_candidates)).all() == []

    assert admin.delete("connections/main").json()["gateway"] == "main"
    assert beat(executor) == nothing
    told = refused(admin.get("connections/main"), 404, "TM-CONNECTION")
    assert told == "The vault has no connection for gateway 'main': it has none."
    log = admin.get("audit-log").json()
    assert {(entry["actor"], entry["subject"]) for entry in log} == {("admin", "main")}
    # How a test ended is told by an executor, whose address is not the actor's.
    assert [
        (entry["action"], entry["address"] is not None) for entry in log if entry["action"] != "connection.test"
    ] == [
        ("connection.delete", True),
        ("connection.change", False),
        ("connection.add", False),
        ("connection.refused", False),
    ]
    tests = [entry for entry in log if entry["action"] == "connection.test"]
    assert len(tests) >= 3
    assert all(entry["address"] for entry in tests)


def test_what_stands_in_the_way(server: RunningServer, executor: httpx.Client, admin: httpx.Client) -> None:
    project = Project.parse("local.main")

    def put(gateway: str, **more: Any) -> httpx.Response:
        return admin.put(f"connections/{gateway}", json=candidate(**more))

    beat(executor, own=None)
    told = refused(put("own"), 409, "TM-CONNECTION")
    assert "apply-1 brings the connection of gateway 'own' itself" in told
    assert "apply-1 brings its own" in refused(admin.get("connections/own"), 404, "TM-CONNECTION")
    assert "letters, digits" in refused(put("a%20b"), 422, "TM-GATEWAY")
    told = refused(put("other", project_gateways=["Main", "archive"]), 422, "TM-GATEWAY")
    assert "There is no gateway 'other'. The project's configuration has archive, main." in told
    for wrong in ("nonsense", json.dumps([CANARY]), json.dumps({"password": CANARY})):
        answer = admin.put("connections/main", json={"query_id": uuid4().hex, "connection": wrong})
        assert "no JSON object with a `type`" in refused(answer, 422, "TM-CONNECTION")
    refused(admin.put("connections/main", json={"query_id": "x", "connection": CANARY}), 422, "TM-REQUEST")
    by_hand = {"query_id": uuid4().hex, "kind": "test_connection", "gateway": "own", "arguments": {}}
    refused(admin.post("queries", json=by_hand), 422, "TM-REQUEST")

    # Nothing is left of what was never put to an executor.
    refused(put("main", project_gateways=["MAIN"]), 503, "TM-TEMPORAL")
    assert not {"candidate", CANARY} & set(everything(server, project).split("'"))
    record_plan(server, project, "plan-1", "warehouse")
    assert "what plans name: warehouse." in refused(put("main"), 422, "TM-GATEWAY")
    refused(put("main", project_gateways=["main"]), 503, "TM-TEMPORAL")

    # A scheduled environment would miss it.
    vault = Vault(KeyRing(server.settings.secret_keys))
    for gateway in ("warehouse", "archive"):
        keep(server, vault, gateway)
    promoted(executor, [snapshot_of("orders")], plan_id="plan-1")
    told = refused(admin.delete("connections/warehouse"), 409, "TM-CONNECTION")
    assert "gateway 'warehouse': prod." in told
    assert admin.delete("connections/archive").status_code == 200
    assert admin.delete("connections/warehouse", params={"force": True}).status_code == 200
    entry = admin.get("audit-log", params={"subject": "warehouse"}).json()[0]
    assert entry["details"] == {"type": "postgres", "scheduled_environments": ["prod"]}


def keep(server: RunningServer, vault: Vault, gateway: str) -> None:
    """A connection of the vault, as if it had been tested."""
    query_id = uuid4().hex
    with server.database.transaction(Project.parse("local.main")) as transaction:
        vault.put_candidate(transaction, query_id, gateway, CONNECTION)
        row = transaction.connection.execute(
            select(connection_candidates).where(connection_candidates.c.query_id == query_id)
        ).one()
        transaction.connection.execute(
            connections.insert().values(
                project=row.project,
                gateway=gateway,
                type=row.type,
                revision=query_id,
                sealed=row.sealed,
                sealed_key=row.sealed_key,
                dialect="postgres",
                concurrent_tasks=4,
                created_by="admin",
                changed_by="admin",
            )
        )


def test_another_key_takes_the_place_of_the_first(server: RunningServer, executor: httpx.Client) -> None:
    project = Project.parse("local.main")
    old = KeyRing({"test": SecretStr(CODEC_KEYS["test"])})
    another = SecretStr(base64.b64encode(bytes([1] * 32)).decode())
    for gateway in ("one", "two"):
        keep(server, Vault(old), gateway)
    before = executor.get("sealed-connections").json()

    with pytest.raises(SealingError, match="'test', which is not among"), server.database.engine.begin() as connection:
        seal_again(connection, KeyRing({"new": another}))
    ring = {"new": another.get_secret_value(), **CODEC_KEYS}
    settings = {
        "TEMPOMESH_SERVER_DATABASE_URL": server.settings.database_url.get_secret_value(),
        "TEMPOMESH_SERVER_PROJECTS": json.dumps([project.namespace]),
        "TEMPOMESH_SERVER_CODEC_KEYS": json.dumps(CODEC_KEYS),
        "TEMPOMESH_SERVER_SECRET_KEYS": json.dumps(ring),
    }
    for again in (2, 0):
        result = CliRunner().invoke(command, ["rotate-key"], env=settings)
        assert result.exit_code == 0, result.output
        for what in ("connections", "connections being tested"):
            assert f"{what}: {again} of 2 sealed again with key 'new'." in result.output
    with server.database.transaction(project) as transaction:
        after = Vault(KeyRing({"new": another})).all_sealed(transaction)
        assert after.model_dump(mode="json") == before, "executors notice nothing"
        transaction.connection.execute(
            connection_candidates.update().values(created_at=text("now() - interval '2 hours'"))
        )
        expire_candidates(transaction)
        assert transaction.connection.execute(select(connection_candidates)).all() == []
