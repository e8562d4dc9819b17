"""Every route has a door, and the door knows who is who."""

from importlib import import_module
from pkgutil import iter_modules

import httpx
import pytest
from fastapi.routing import APIRoute

from server import api
from server.projects import Role
from tests.integration.server.conftest import RunningServer

ROUTES = sorted(
    (method, route.path)
    for module in iter_modules(api.__path__, f"{api.__name__}.")
    if (router := getattr(import_module(module.name), "router", None))
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
)
MACHINES = {Role.EXECUTOR, Role.WORKER}
TAKES = {
    "view": {Role.VIEWER, Role.OPERATOR, Role.DEVELOPER, Role.ADMIN},
    "plan": {Role.DEVELOPER, Role.ADMIN},
    "run": {Role.OPERATOR, Role.DEVELOPER, Role.ADMIN},
    "pause": {Role.OPERATOR, Role.DEVELOPER, Role.ADMIN},
    "query": {Role.DEVELOPER, Role.ADMIN},
    "manage": {Role.ADMIN},
    "executor": {Role.EXECUTOR},
    "worker": {Role.WORKER},
}
PERMISSIONS = {
    ("POST", "/plans"): "plan",
    ("POST", "/plans/{plan_id}/cancel"): "plan",
    ("POST", "/runs"): "run",
    ("POST", "/runs/{run_id}/cancel"): "run",
    ("POST", "/environments/{name}/invalidate"): "plan",
    ("POST", "/environments/{name}/schedule"): "pause",
    ("POST", "/environments/{name}/unschedule"): "pause",
    ("POST", "/environments/{name}/pause"): "pause",
    ("POST", "/environments/{name}/resume"): "pause",
    ("POST", "/environments/{name}/pauses/settle"): "worker",
    ("POST", "/pauses"): "pause",
    ("DELETE", "/pauses/{pause_id}"): "pause",
    ("POST", "/schedules/wanted"): "worker",
    ("GET", "/python-requests/{key}"): "executor",
    ("PUT", "/python-requests/{key}"): "executor",
    ("PUT", "/plans/{plan_id}/python-environment"): "executor",
    ("GET", "/plans/{plan_id}/evaluatable"): "executor",
    ("PUT", "/plans/{plan_id}/stages"): "executor",
    ("GET", "/plans/{plan_id}/stages/{index}"): "executor",
    ("POST", "/plans/{plan_id}/stages/{index}/status"): "executor worker",
    ("POST", "/plans/{plan_id}/stages/{index}/hold"): "worker",
    ("POST", "/plans/{plan_id}/status"): "worker",
    ("POST", "/runs/{run_id}/begin"): "executor",
    ("POST", "/runs/{run_id}/status"): "executor worker",
    ("PUT", "/executions/{execution_id}"): "executor",
    ("GET", "/executions/{execution_id}"): "executor",
    ("POST", "/executions/{execution_id}/progress/{workflow_run_id}"): "executor",
    ("POST", "/executions/{execution_id}/outcome"): "worker",
    ("POST", "/owners/{owner_id}/events"): "executor worker",
    ("POST", "/units"): "executor",
    ("POST", "/leases"): "executor",
    ("POST", "/executors"): "executor",
    ("PUT", "/environments/{name}/unscheduled"): "worker",
    ("POST", "/queries"): "query plan manage",
    ("GET", "/queries/{query_id}"): "query plan manage",
    ("DELETE", "/queries/{query_id}"): "query plan manage",
    ("GET", "/queries/{query_id}/answer"): "query plan manage",
    ("POST", "/queries/{query_id}/cancel"): "query plan manage",
    ("GET", "/queries/{query_id}/question"): "executor",
    ("PUT", "/queries/{query_id}/answer"): "executor",
    ("POST", "/queries/{query_id}/begin"): "worker",
    ("POST", "/queries/{query_id}/status"): "worker",
    ("GET", "/clients"): "manage",
    ("POST", "/clients"): "manage",
    ("POST", "/clients/{identity_id}/rotate"): "manage",
    ("DELETE", "/clients/{identity_id}"): "manage",
    ("GET", "/accounts"): "manage",
    ("POST", "/accounts"): "manage",
    ("POST", "/accounts/{identity_id}/reset-password"): "manage",
    ("POST", "/accounts/{identity_id}/disable"): "manage",
    ("POST", "/accounts/{identity_id}/enable"): "manage",
    ("DELETE", "/accounts/{identity_id}"): "manage",
    ("PUT", "/connections/{gateway}"): "manage",
    ("POST", "/connections/{gateway}/test"): "manage",
    ("DELETE", "/connections/{gateway}"): "manage",
    ("GET", "/sealed-connections"): "executor",
    ("GET", "/queries/{query_id}/connection"): "executor",
    ("POST", "/state-import"): "manage",
    ("GET", "/audit-log"): "manage",
    ("GET", "/grants"): "manage",
    ("POST", "/grants"): "manage",
    ("DELETE", "/grants/{grant_id}"): "manage",
    ("POST", "/codec/decode"): "view",
    ("POST", "/codec/encode"): "manage",
}
"""What a route takes, any of it; every other route is for all who may see the project."""


def permission_of(method: str, path: str) -> list[str]:
    return PERMISSIONS.get((method, path), "view executor worker").split()


def call(client: httpx.Client, method: str, path: str) -> httpx.Response:
    filled = path.replace("{index}", "0").replace("{method}", "get_environments")
    for name in (
        "plan_id",
        "run_id",
        "execution_id",
        "evaluation_id",
        "owner_id",
        "pause_id",
        "query_id",
        "grant_id",
        "key",
        "gateway",
        "identity_id",
        "name",
        "environment",
        "workflow_run_id",
    ):
        filled = filled.replace(f"{{{name}}}", "x")
    if (method, path) == ("POST", "/plans"):
        filled += "?gateway=warehouse&sqlmesh_version=0"
    return client.request(method, filled.lstrip("/"), content=b"" if method == "GET" else b"{}")


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_what_is_its_own(server: RunningServer, role: Role) -> None:
    with server.client(role) as client:
        for method, path in ROUTES:
            allowed = any(role in TAKES[permission] for permission in permission_of(method, path))
            assert (call(client, method, path).status_code != 403) == allowed, (role, method, path)


def test_nobody_comes_in_without_a_token(server: RunningServer) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}):
        with httpx.Client(base_url=f"{server.url}/api/", headers=headers, trust_env=False) as client:
            for method, path in ROUTES:
                answer = call(client, method, path)
                assert (answer.status_code, answer.json()["code"]) == (401, "TM-TOKEN"), (method, path)


def test_an_unknown_project_is_named(server: RunningServer, admin: httpx.Client) -> None:
    answer = admin.get(server.url.replace("local/main", "local/other") + "/api/plans")
    assert answer.status_code == 404
    assert "local/other" in answer.json()["message"]


def test_only_machines_learn_the_keys(server: RunningServer, executor: httpx.Client, admin: httpx.Client) -> None:
    told = executor.get("bootstrap").json()
    assert told["temporal"]["namespace"] == "local.main"
    assert list(told["codec_keys"]) == ["test"]
    shown = admin.get("bootstrap").json()
    assert (shown["temporal"], shown["codec_keys"]) == (None, None)


def test_health_is_open_and_readiness_says_what_is_missing(server: RunningServer) -> None:
    root = server.url.split("/sqlmesh")[0]
    assert httpx.get(f"{root}/healthz", trust_env=False).status_code == 200
    ready = httpx.get(f"{root}/readyz", trust_env=False)
    assert ready.status_code == 503
    assert "Temporal" in ready.text


def test_every_error_is_a_code_and_a_line(server: RunningServer, executor: httpx.Client) -> None:
    broken = executor.post("leases", content=b"no gzip", headers={"Content-Encoding": "gzip"})
    for answer, status in (
        (executor.get("nothing/like/this"), 404),
        (executor.delete("plans"), 405),
        (executor.post("leases", json={}), 422),
        (executor.post("units", content=b"{"), 422),
        (broken, 400),
    ):
        assert answer.status_code == status
        body = answer.json()
        assert body["code"].startswith("TM-")
        assert len(body["message"].splitlines()) == 1
