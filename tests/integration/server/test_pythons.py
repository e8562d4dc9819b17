"""Pinned sets of Python packages: one answer to a request, for all who ask the same; and which models ask."""

import httpx
import orjson
from sqlmesh.core.snapshot import Snapshot, SnapshotChangeCategory
from sqlmesh.utils.metaprogramming import Executable, ExecutableKind

from server.plans import accept_plan, read_submission
from tcloud.wire.pythons import Package, PinnedPython, PlanPython, PythonOfEnvironment, PythonRequest
from tests.integration.server.conftest import PROJECT, RunningServer, report_gateway
from tests.integration.server.states import promoted, snapshot_of

ASKED = {"humanize": "4.9.0", "Some.Thing": "1.0"}
REQUEST = PythonRequest(
    requirements=ASKED, sqlmesh_version="0.236.4", python_version="3.11", platform="x86_64-linux-gnu"
)
PINNED = PinnedPython(
    request=REQUEST,
    pinned="humanize==4.9.0 \\\n    --hash=sha256:aa\nsome-thing==1.0 ; python_version < '4' \\\n    --hash=sha256:b\n",
)


def importing(name: str, library: str) -> Snapshot:
    """A snapshot of a model with a macro that imports a library."""
    plain = snapshot_of(name)
    code = {"lib": Executable(payload=f"import {library} as lib", kind=ExecutableKind.IMPORT)}
    snapshot = Snapshot.from_node(plain.model.copy(update={"python_env": code}), nodes={})
    snapshot.categorize_as(SnapshotChangeCategory.BREAKING)
    return snapshot


def test_the_first_answer_to_a_request_stays(executor: httpx.Client) -> None:
    assert executor.get(f"python-requests/{REQUEST.key}").status_code == 404
    later = PINNED.model_copy(update={"pinned": PINNED.pinned.replace("1.0", "1.1")})
    for offered in (PINNED, later):
        kept = executor.put(f"python-requests/{REQUEST.key}", json=offered.model_dump(mode="json"))
        assert PinnedPython.model_validate_json(kept.content) == PINNED
    assert PinnedPython.model_validate_json(executor.get(f"python-environments/{PINNED.key}").content) == PINNED
    assert executor.get(f"python-environments/{later.key}").status_code == 404
    other = executor.put("python-requests/another", json=PINNED.model_dump(mode="json"))
    assert (other.status_code, other.json()["code"]) == (422, "TM-PYTHON")


def test_an_environment_shows_what_it_runs_in_and_why(
    server: RunningServer, executor: httpx.Client, admin: httpx.Client
) -> None:
    report_gateway(executor)
    plan = {"environment": {"name": "prod", "plan_id": "plan-1", "requirements": ASKED}}
    with server.database.transaction(PROJECT) as transaction:
        body = orjson.dumps(plan)
        assert accept_plan(
            transaction,
            read_submission(body),
            body,
            gateway="warehouse",
            default_catalog=None,
            sqlmesh_version="0.236.4",
            created_by="ada",
            python_version="3.11",
        )
    models = [importing("trips", "humanize.time"), importing("docks", "yaml"), snapshot_of("stations")]
    promoted(executor, models, "plan-1")
    shown = PythonOfEnvironment.model_validate_json(admin.get("environments/prod/python").content)
    assert shown.key is None

    executor.put(f"python-requests/{REQUEST.key}", json=PINNED.model_dump(mode="json")).raise_for_status()
    unknown = executor.put("plans/plan-1/python-environment", json=PlanPython(key="none").model_dump())
    assert unknown.status_code == 404
    python = PlanPython(key=PINNED.key, modules={"some-thing": ["yaml"], "humanize": ["humanize"]})
    noted = executor.put("plans/plan-1/python-environment", json=python.model_dump())
    assert noted.status_code == 204

    record = admin.get("plans/plan-1").json()
    assert (record["requirements"], record["python_version"], record["python_environment"]) == (
        *(ASKED, "3.11"),
        PINNED.key,
    )
    assert admin.get("environments/prod").json()["python_environment"] == PINNED.key
    assert report_gateway(executor).json()["python_environments"] == [PINNED.key]
    shown = PythonOfEnvironment.model_validate_json(admin.get("environments/prod/python").content)
    assert shown.key == PINNED.key
    assert [(asked.name, asked.models) for asked in shown.requirements] == [
        ("Some.Thing", ["db.docks"]),
        ("humanize", ["db.trips"]),
    ]
    assert shown.packages == [Package(name="humanize", version="4.9.0"), Package(name="some-thing", version="1.0")]
