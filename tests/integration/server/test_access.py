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
FOR_WHOM = {
    ("POST", "/plans"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/plans/{plan_id}/cancel"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/runs"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/runs/{run_id}/cancel"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/environments/{name}/invalidate"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/environments/{name}/schedule"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/environments/{name}/unschedule"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/environments/{name}/pause"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/environments/{name}/resume"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/environments/{name}/pauses/settle"): {Role.WORKER},
    ("POST", "/pauses"): {Role.DEVELOPER, Role.ADMIN},
    ("DELETE", "/pauses/{pause_id}"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/schedules/wanted"): {Role.WORKER},
    ("GET", "/python-requests/{key}"): {Role.EXECUTOR},
    ("PUT", "/python-requests/{key}"): {Role.EXECUTOR},
    ("PUT", "/plans/{plan_id}/python-environment"): {Role.EXECUTOR},
    ("GET", "/plans/{plan_id}/evaluatable"): {Role.EXECUTOR},
    ("PUT", "/plans/{plan_id}/stages"): {Role.EXECUTOR},
    ("GET", "/plans/{plan_id}/stages/{index}"): {Role.EXECUTOR},
    ("POST", "/plans/{plan_id}/stages/{index}/status"): {Role.EXECUTOR, Role.WORKER},
    ("POST", "/plans/{plan_id}/stages/{index}/hold"): {Role.WORKER},
    ("POST", "/plans/{plan_id}/status"): {Role.WORKER},
    ("POST", "/runs/{run_id}/begin"): {Role.EXECUTOR},
    ("POST", "/runs/{run_id}/status"): {Role.EXECUTOR, Role.WORKER},
    ("PUT", "/executions/{execution_id}"): {Role.EXECUTOR},
    ("GET", "/executions/{execution_id}"): {Role.EXECUTOR},
    ("POST", "/executions/{execution_id}/progress/{workflow_run_id}"): {Role.EXECUTOR},
    ("POST", "/executions/{execution_id}/outcome"): {Role.WORKER},
    ("POST", "/owners/{owner_id}/events"): {Role.EXECUTOR, Role.WORKER},
    ("POST", "/units"): {Role.EXECUTOR},
    ("POST", "/leases"): {Role.EXECUTOR},
    ("POST", "/executors"): {Role.EXECUTOR},
    ("PUT", "/environments/{name}/unscheduled"): {Role.WORKER},
    ("POST", "/queries"): {Role.DEVELOPER, Role.ADMIN},
    ("GET", "/queries/{query_id}"): {Role.DEVELOPER, Role.ADMIN},
    ("DELETE", "/queries/{query_id}"): {Role.DEVELOPER, Role.ADMIN},
    ("GET", "/queries/{query_id}/answer"): {Role.DEVELOPER, Role.ADMIN},
    ("POST", "/queries/{query_id}/cancel"): {Role.DEVELOPER, Role.ADMIN},
    ("GET", "/queries/{query_id}/question"): {Role.EXECUTOR},
    ("PUT", "/queries/{query_id}/answer"): {Role.EXECUTOR},
    ("POST", "/queries/{query_id}/begin"): {Role.WORKER},
    ("POST", "/queries/{query_id}/status"): {Role.WORKER},
    ("POST", "/state-import"): {Role.ADMIN},
    ("POST", "/codec/decode"): {Role.VIEWER, Role.DEVELOPER, Role.ADMIN},
    ("POST", "/codec/encode"): {Role.ADMIN},
}
"""Every other route is for all who may see the project."""


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
        "name",
        "environment",
        "workflow_run_id",
    ):
        filled = filled.replace(f"{{{name}}}", "x")
    return client.request(method, filled.lstrip("/"), content=b"" if method == "GET" else b"{}")


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_what_is_its_own(server: RunningServer, role: Role) -> None:
    with server.client(role) as client:
        for method, path in ROUTES:
            allowed = role in FOR_WHOM.get((method, path), set(Role))
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
