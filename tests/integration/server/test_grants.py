"""Grants over HTTP: what bounded callers may do and see, what a plan is checked by, and what the audit log says."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from sqlmesh.core.environment import Environment
from sqlmesh.core.snapshot import Snapshot, SnapshotChangeCategory
from sqlmesh.utils.date import to_timestamp

from server.grants import _FRESH_SECONDS
from server.identities import register_identity
from server.projects import Role
from server.settings import ClientSettings
from tests.eventually import eventually
from tests.integration.server.conftest import PROJECT, RunningServer, report_gateway
from tests.integration.server.states import dag_of, environment_of, promoted, snapshot_of

ORIGIN = {"gateway": "warehouse", "default_catalog": None, "sqlmesh_version": "0.236.4"}
TREE = {"orders": [], "totals": ["orders"], "aside": ["orders"]}
TAGS = {"orders": "finance", "totals": "finance", "aside": "marketing"}


@contextmanager
def known(server: RunningServer, name: str) -> Iterator[httpx.Client]:
    """Somebody whom the server knows, to whom nothing is granted."""
    client = ClientSettings.model_validate({"client_id": name, "role": Role.VIEWER, "secret": f"{name}-token"})
    with server.database.transaction(PROJECT) as transaction:
        register_identity(transaction.connection, client)
    with httpx.Client(
        base_url=f"{server.url}/api/", headers={"Authorization": f"Bearer {name}-token"}, trust_env=False
    ) as http:
        yield http


def grant(admin: httpx.Client, name: str, **what: Any) -> dict[str, Any]:
    answer = admin.post("grants", json={"identity_id": name, **what}).raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def said(answer: httpx.Response) -> str:
    """What was said to somebody to whom something was denied."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (403, "TM-ROLE"), body
    message: str = body["message"]
    assert len(message.splitlines()) == 1
    return message


def changed(snapshots: list[Snapshot], name: str, **how: Any) -> list[Snapshot]:
    """The snapshots, one with another definition, as its planner makes them: those that read it are others, too."""
    fqn = f'"db"."{name}"'
    nodes = {each.name: each.node.copy(update=how) if each.name == fqn else each.node for each in snapshots}
    made = []
    for before in snapshots:
        after = Snapshot.from_node(nodes[before.name], nodes=nodes)
        after.categorize_as(SnapshotChangeCategory.BREAKING)
        made.append(before if before.snapshot_id == after.snapshot_id else after)
    return made


def plan(environment: Environment, new: list[Snapshot], **more: Any) -> dict[str, Any]:
    """As much of an `EvaluatablePlan` as the server reads."""
    return {
        "environment": json.loads(environment.json()),
        "new_snapshots": [json.loads(snapshot.json()) for snapshot in new],
        "restatements": {},
        "is_dev": environment.name != "prod",
        "restate_all_snapshots": environment.name == "prod",
        **more,
    }


def submit(client: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    return client.post("plans", json=body, params={k: v for k, v in ORIGIN.items() if v is not None})


def test_grants_are_added_listed_and_taken_back(server: RunningServer, admin: httpx.Client) -> None:
    with known(server, "ada") as ada:
        assert "no business in project 'local.main'" in said(ada.get("plans"))
        given = grant(admin, "ada", actions=["run"], environments=["dev_*"], models=["tag:finance"])
        assert admin.post("grants", json={"identity_id": "ada", "role": "viewer"}).status_code == 201
        again = admin.post("grants", json={"identity_id": "ada", "role": "viewer"})
        assert (again.status_code, again.json()["actions"]) == (200, ["view"])
        mine = ada.get("permissions").json()
        assert (mine["identity_id"], len(mine["grants"])) == ("ada", 2)
        assert given in mine["grants"]
        assert admin.get("grants", params={"identity_id": "ada"}).json() == mine["grants"]
        assert ada.get("plans").status_code == 200
        assert "`manage` in all environments" in said(ada.get("grants"))
        assert "grant.add" in said(ada.post("grants", json={"identity_id": "ada", "role": "admin"}))

        for wrong, status, says in (
            ({"identity_id": "bob", "role": "viewer"}, 404, "it knows ada, admin"),
            ({"identity_id": "ada"}, 422, "give one of the two"),
            ({"identity_id": "ada", "role": "viewer", "actions": ["run"]}, 422, "give one of the two"),
            ({"identity_id": "ada", "role": "executor", "environments": ["dev"]}, 422, "no bounds"),
            ({"identity_id": "ada", "actions": ["query"], "environments": ["dev"]}, 422, "query has no bounds"),
            ({"identity_id": "ada", "role": "viewer", "environments": ["Prod"]}, 422, "'Prod' is no pattern"),
            ({"identity_id": "ada", "actions": ["run"], "models": ["tag:"]}, 422, "'tag:' cannot be read"),
            ({"identity_id": "ada", "actions": ["run"], "models": ["git:main"]}, 422, "the project's files"),
        ):
            refused = admin.post("grants", json=wrong)
            assert refused.status_code == status, wrong
            assert says in refused.json()["message"]

        # The settings' own grant comes back anyway; another administrator's goes as long as one is left.
        of_settings = next(g for g in admin.get("grants").json() if g["identity_id"] == "admin")
        assert "TEMPOMESH_SERVER_CLIENTS" in admin.delete(f"grants/{of_settings['grant_id']}").json()["message"]
        second = grant(admin, "ada", role="admin")
        assert ada.get("audit-log").status_code == 200
        with server.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE tempomesh.identities SET disabled_at = now() WHERE identity_id = 'admin'"
            )
        last = ada.delete(f"grants/{second['grant_id']}")
        assert (last.status_code, last.json()["code"]) == (409, "TM-GRANT")
        assert "last administrator" in last.json()["message"]
        with server.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE tempomesh.identities SET disabled_at = NULL")
        assert ada.delete(f"grants/{second['grant_id']}").status_code == 200
        assert ada.get("audit-log").status_code == 403
        assert admin.delete(f"grants/{second['grant_id']}").status_code == 404

        log = admin.get("audit-log", params={"subject": "ada"}).json()
        assert [(entry["actor"], entry["action"]) for entry in reversed(log)] == [
            ("admin", "grant.add"),
            ("admin", "grant.add"),
            ("admin", "grant.add"),
            ("ada", "grant.remove"),
        ]
        assert log[-1]["details"]["models"] == ["tag:finance"]
        denied = admin.get("audit-log", params={"allowed": False}).json()
        assert ("ada", "grant.add") in {(entry["actor"], entry["action"]) for entry in denied}
        assert {entry["address"] for entry in denied} == {"127.0.0.1"}


def test_a_change_by_another_server_holds_soon(server: RunningServer, admin: httpx.Client) -> None:
    with known(server, "ada") as ada:
        grant(admin, "ada", role="viewer")
        assert ada.get("plans").status_code == 200
        with server.database.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM tempomesh.grants WHERE identity_id = 'ada'")
        eventually(lambda: ada.get("plans").status_code == 403, timeout=_FRESH_SECONDS + 30)


def test_what_bounded_callers_may_do_and_see(
    server: RunningServer, admin: httpx.Client, executor: httpx.Client
) -> None:
    snapshots = dag_of(TREE, TAGS)
    promoted(executor, snapshots, "plan-1")
    promoted(executor, snapshots, "plan-2", name="dev_ada")
    for run_id, environment in (("prod-1", "prod"), ("dev-1", "dev_ada")):
        executor.post(f"runs/{run_id}/begin", json={"environment": environment}).raise_for_status()
    orders, aside = '"db"."orders"', '"db"."aside"'
    with known(server, "ada") as ada:
        grant(admin, "ada", actions=["run", "pause"], environments=["dev_*"])
        grant(admin, "ada", actions=["pause", "run"], environments=["prod"], models=["tag:finance"])
        grant(admin, "ada", actions=["plan"], environments=["staging"])
        # Runs and pauses take all models of an environment, or those that are named.
        whole = said(ada.post("runs", json={"environment": "prod"}))
        assert "`run` in environment 'prod' for db.aside" in whole
        assert "tcloud grants add ada --action run --environment prod" in whole
        assert said(ada.post("environments/prod/pause", json={"reason": "no"})).count("db.") == 1
        assert said(ada.post("environments/prod/schedule")).count("db.") == 1
        assert "db.aside" in said(ada.post("runs", json={"environment": "prod", "select_models": [orders, aside]}))
        for environment, more in (("prod", {"select_models": [orders]}), ("dev_ada", {})):
            assert ada.post("runs", json={"environment": environment, **more}).json()["code"] == "TM-TEMPORAL"
        ignoring = {"environment": "dev_ada", "ignore_pause": True}
        assert "`manage` in environment 'dev_ada'" in said(ada.post("runs", json=ignoring))
        assert "db.aside" in said(ada.post("runs/prod-1/cancel"))
        assert ada.post("runs/dev-1/cancel").json()["code"] == "TM-TEMPORAL"
        pause = {"environment": "prod", "model": "tag:marketing", "reason": "broken"}
        assert "db.aside" in said(ada.post("pauses", json=pause))
        own = ada.post("pauses", json={**pause, "model": "db.orders"}).raise_for_status().json()["pause"]
        others = admin.post("pauses", json=pause).raise_for_status().json()["pause"]
        assert "db.aside" in said(ada.delete(f"pauses/{others['pause_id']}"))
        assert ada.delete(f"pauses/{own['pause_id']}").status_code == 200
        assert "`plan` in environment 'dev_ada'" in said(ada.post("environments/dev_ada/invalidate"))
        assert (
            ada.post("queries", json={"query_id": "0" * 32, "kind": "fetch", "gateway": "w", "arguments": {}})
            .json()["message"]
            .startswith("'ada' may not do this (query.submit)")
        )

    with known(server, "bob") as bob:
        grant(admin, "bob", role="viewer", environments=["dev_*"])
        assert [each["name"] for each in bob.get("environments").json()] == ["dev_ada"]
        assert [each["run_id"] for each in bob.get("runs").json()] == ["dev-1"]
        assert [each["run_id"] for each in bob.get("v1/runs").json()] == ["dev-1"]
        assert bob.get("pauses").json() == []
        assert bob.get("runs/dev-1").status_code == 200
        for path in (
            "environments/prod",
            "environments/prod/crons",
            "environments/prod/python",
            "environments/nowhere",
            "v1/dags/prod",
            "v1/runs/prod-1",
            "v1/runs/prod-1/evaluations",
            "runs/prod-1",
            "runs/prod-1/evaluations",
            "runs/prod-1/events",
            "runs?environment=prod",
            "v1/runs?environment=prod",
            "v1/evaluations?environment=prod",
            "plans?environment=prod",
            "pauses?environment=prod",
            "evaluations?model=db.orders&environment=prod",
        ):
            said(bob.get(path))
        # Payloads of Temporal are of any environment; the state is whole, because plans are made from it.
        said(bob.post("codec/decode", json={}))
        assert bob.post("state/get_environments", json={}).status_code == 200
        assert bob.get("bootstrap").json()["codec_keys"] is None


def test_a_plan_is_checked_by_what_it_changes(
    server: RunningServer, admin: httpx.Client, executor: httpx.Client
) -> None:
    report_gateway(executor)
    tree = dag_of(TREE, TAGS)
    promoted(executor, tree, "plan-1")
    added = snapshot_of("bikes")
    with known(server, "bob") as bob:
        # Who may plan nothing is told what it would take, too.
        grant(admin, "bob", role="viewer")
        first = plan(environment_of([added], "plan-2", None, "dev_bob"), [added])
        assert "in environment 'dev_bob' the plan adds db.bikes" in said(submit(bob, first))
        assert "it takes `plan` in environment 'dev_bob'" in said(submit(bob, {**first, "new_snapshots": 1}))
        assert "it takes `plan`." in said(submit(bob, {}))
    with known(server, "ada") as ada:
        grant(admin, "ada", actions=["plan"], environments=["prod", "dev_*"], models=["tag:finance"])

        def verdict(new: list[Snapshot], name: str = "prod", **more: Any) -> str:
            """What is said of a plan that makes the environment of these; empty if it is let through."""
            environment = environment_of(new, "plan-2", "plan-1" if name == "prod" else None, name)
            stored = {snapshot.snapshot_id for snapshot in tree}
            answer = submit(ada, plan(environment, [s for s in new if s.snapshot_id not in stored], **more))
            if answer.status_code == 503:
                # Nobody is there to apply it, or it would have been.
                assert answer.json()["code"] == "TM-TEMPORAL"
                return ""
            return said(answer)

        orders = changed(tree, "orders", stamp="2")
        aside = changed(tree, "aside", stamp="2")
        assert verdict(tree) == ""
        # What is downstream of it gets another version, but has the definition that it had.
        assert [new is old for new, old in zip(orders, tree, strict=True)] == [False, False, False]
        assert verdict(orders) == ""
        assert "the plan modifies db.aside." in verdict(aside)
        assert "modifies db.aside" in verdict(changed(tree, "aside", owner="ada"))
        assert "adds db.bikes" in verdict([*tree, added])
        assert verdict([*tree, *changed([added], "bikes", tags=["finance"])]) == ""
        assert "removes db.aside" in verdict(tree[:2])
        assert verdict([tree[0], tree[2]]) == ""
        # A tag that the plan itself sets, or takes away, gives nobody a model.
        assert "modifies db.aside" in verdict(changed(tree, "aside", tags=["finance"]))
        assert "modifies db.orders" in verdict(changed(tree, "orders", tags=["marketing"]))
        interval = [to_timestamp("2024-01-01"), to_timestamp("2024-01-02")]
        assert "restates db.aside" in verdict(tree, restatements={'"db"."aside"': interval, '"db"."orders"': interval})
        assert verdict(tree, restatements={'"db"."orders"': interval}) == ""
        # A forged fingerprint hides nothing.
        claimed = json.loads(aside[2].json())
        claimed["fingerprint"] = {**json.loads(tree[2].fingerprint.json()), "parent_data_hash": "1"}
        forged = [*tree[:2], Snapshot.model_validate(claimed)]
        assert "modifies db.aside" in verdict(forged)
        statements = [{"before_all": ["DROP TABLE x"], "after_all": [], "python_env": {}}]
        assert "before_all and after_all" in verdict(tree, environment_statements=statements)
        # A new development environment is made of what others have, and of one's own changes.
        assert verdict(orders, "dev_ada") == ""
        assert "modifies db.aside" in verdict(aside, "dev_ada")
        assert "`plan` in environment 'staging'" in verdict(tree, "staging")
        assert ada.get("plans").json() == []

        # What is no plan, or says of a development environment that it is none, is not looked at any further.
        posing = plan(environment_of(orders, "plan-3", None, "dev_ada"), [], is_dev=False)
        for broken in (submit(ada, {"environment": {"name": "prod", "plan_id": "plan-3"}}), submit(ada, posing)):
            assert (broken.status_code, broken.json()["code"]) == (422, "TM-PLAN")
        denied = admin.get("audit-log", params={"action": "plan.submit", "allowed": False}).json()
        assert any(entry["details"].get("adds") == ['"db"."bikes"'] for entry in denied)
        done = admin.get("audit-log", params={"action": "plan.submit", "allowed": True}).json()
        assert {(entry["actor"], entry["subject"]) for entry in done} == {("ada", "prod"), ("ada", "dev_ada")}
