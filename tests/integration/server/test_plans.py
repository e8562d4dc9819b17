"""Plans and manual runs, from their submission into Temporal and back to the listings."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from activities.control import ServerBackedControlActivities
from activities.schedules import EnvironmentSchedules
from server.api.plans import Origin
from server.database import Transaction
from server.lost_workflows import end_lost
from server.plans import accept_plan, read_submission, set_plan_status
from server.projects import Project, Role
from server.temporal import TemporalGateway
from server.temporal_connection import TemporalConnection
from server.temporal_tokens import TemporalTokens
from server.waiting import submit_waiting
from tcloud.api.control import ControlApi
from tcloud.wire.plans import Plan
from tcloud.wire.policies import EvaluationPolicy, ModelLimits
from tcloud.wire.runs import Run
from tcloud.wire.statuses import Status
from tests.eventually import eventually_async
from tests.fixtures.temporal import TemporalServer
from tests.integration.server.conftest import CODEC_KEYS, PROJECT, RunningServer, report_gateway
from tests.integration.server.states import environment_of, promoted, remote_state, snapshot_of
from workflows.codec import data_converter
from workflows.environment import EnvironmentWorkflow
from workflows.interfaces import CONTROL_QUEUE
from workflows.maintenance import MaintenanceWorkflow
from workflows.payloads import EnvironmentRef
from workflows.plan import PlanWorkflow
from workflows.run import RunWorkflow

ORIGIN = {"gateway": "warehouse", "default_catalog": "warehouse", "sqlmesh_version": "0.236.4"}


@pytest.fixture
def developer(scheduled: RunningServer) -> Iterator[httpx.Client]:
    with scheduled.client(Role.DEVELOPER) as client:
        yield client


@pytest.fixture
def apply_executor(scheduled: RunningServer) -> Iterator[httpx.Client]:
    with scheduled.client(Role.EXECUTOR) as client:
        report_gateway(client)
        yield client


@asynccontextmanager
async def control_worker(scheduled: RunningServer, temporal: TemporalServer, namespace: str) -> AsyncIterator[Client]:
    """All workflows and control activities; nobody evaluates anything."""
    keys = {key_id: bytes(32) for key_id in CODEC_KEYS}
    client = await Client.connect(temporal.address, namespace=namespace, data_converter=data_converter(keys))
    async with ControlApi(scheduled.url, f"{Role.WORKER}-token") as api:
        control = ServerBackedControlActivities(api, EnvironmentSchedules(client))
        async with Worker(
            client,
            task_queue=CONTROL_QUEUE,
            workflows=[EnvironmentWorkflow, PlanWorkflow, RunWorkflow, MaintenanceWorkflow],
            activities=[
                control.record_plan_status,
                control.record_stage_status,
                control.hold_tables,
                control.record_outcome,
                control.record_run_status,
                control.sync_schedules,
                control.reconcile_schedules,
                control.has_later_tick,
            ],
        ):
            yield client


def gateway_of(scheduled: RunningServer, temporal: TemporalServer, project: Project) -> TemporalGateway:
    """The server's way to Temporal, for the loop of a test."""
    tokens = TemporalTokens(scheduled.app.state.sign_in.issuer.keys)
    return TemporalGateway(scheduled.settings, TemporalConnection(temporal.address), [project], tokens)


def plan_json(plan_id: str, previous_plan_id: str | None = None) -> dict[str, Any]:
    """As much of an `EvaluatablePlan` as the server reads."""
    return {"environment": {"name": "prod", "plan_id": plan_id, "previous_plan_id": previous_plan_id}}


def accept(transaction: Transaction, plan_id: str, previous_plan_id: str | None = None) -> None:
    """Stores a plan of `prod` as if it had been submitted."""
    body = orjson.dumps(plan_json(plan_id, previous_plan_id))
    assert accept_plan(
        transaction, read_submission(body), body, **Origin(**ORIGIN).model_dump(), created_by="developer"
    )


def promote_over(client: httpx.Client, plan_id: str, previous_plan_id: str) -> None:
    """Makes `prod` the outcome of another plan."""
    state = remote_state(client)
    environment = environment_of([snapshot_of("trips")], plan_id, previous_plan_id)
    state.promote(environment, set())
    state.finalize(environment)


async def submit(client: httpx.Client, plan: dict[str, Any], **origin: str) -> httpx.Response:
    return await asyncio.to_thread(client.post, "plans", json=plan, params={**ORIGIN, **origin})


async def plan_of(client: httpx.Client, plan_id: str) -> Plan:
    return Plan.model_validate_json((await asyncio.to_thread(client.get, f"plans/{plan_id}")).content)


async def test_plans_queue_and_are_cancelled(
    scheduled: RunningServer,
    temporal: TemporalServer,
    namespace: str,
    developer: httpx.Client,
    apply_executor: httpx.Client,
) -> None:
    async with control_worker(scheduled, temporal, namespace):
        first = await submit(developer, plan_json("plan-1"))
        assert (first.status_code, first.json()["queue_position"]) == (201, 0)
        second = await submit(developer, plan_json("plan-2"))
        assert (second.status_code, second.json()["queue_position"]) == (201, 1)
        repeated = await submit(developer, plan_json("plan-2"))
        assert (repeated.status_code, repeated.json()["queue_position"]) == (200, 1)

        async def is_applied() -> bool:
            return (await plan_of(developer, "plan-1")).status is Status.IN_PROGRESS

        await eventually_async(is_applied)
        await asyncio.to_thread(developer.post, "plans/plan-2/cancel")
        await asyncio.to_thread(developer.post, "plans/plan-1/cancel")

        async def are_aborted() -> bool:
            return all([(await plan_of(developer, p)).status is Status.ABORTED for p in ("plan-1", "plan-2")])

        await eventually_async(are_aborted)
        done = await plan_of(developer, "plan-1")
        assert done.queue_position is None
        assert done.created_by == "developer"
        stored = await asyncio.to_thread(apply_executor.get, "plans/plan-1/evaluatable")
        assert stored.json() == plan_json("plan-1")


async def test_a_plan_waits_for_a_worker(
    scheduled: RunningServer,
    temporal: TemporalServer,
    namespace: str,
    developer: httpx.Client,
    apply_executor: httpx.Client,
) -> None:
    waiting = await submit(developer, plan_json("plan-1"))
    assert (waiting.status_code, waiting.json()["queue_position"]) == (201, None)
    assert waiting.json()["status"] == "scheduled"
    unwanted = await submit(developer, plan_json("plan-2"))
    assert unwanted.status_code == 201
    cancelled = await asyncio.to_thread(developer.post, "plans/plan-2/cancel")
    assert cancelled.json()["status"] == "aborted"
    assert cancelled.json()["error_message"] == "Cancelled by developer."
    async with control_worker(scheduled, temporal, namespace) as client:

        async def is_applied() -> bool:
            return (await plan_of(developer, "plan-1")).status is Status.IN_PROGRESS

        await eventually_async(is_applied)
        assert (await plan_of(developer, "plan-1")).queue_position == 0
        await asyncio.to_thread(developer.post, "plans/plan-1/cancel")
        environment = client.get_workflow_handle_for(EnvironmentWorkflow.run, "environment/prod")

        async def is_queue_empty() -> bool:
            return not (await environment.query(EnvironmentWorkflow.state)).queue

        await eventually_async(is_queue_empty)
        never_applied = await plan_of(developer, "plan-2")
        assert (never_applied.status, never_applied.start_at) == (Status.ABORTED, None)


def test_what_a_plan_asks_of_evaluations_is_its_environments(
    server: RunningServer, executor: httpx.Client, admin: httpx.Client
) -> None:
    report_gateway(executor)
    promoted(executor, [snapshot_of("trips")], "plan-1")
    policy = EvaluationPolicy(retries=2, models={'"db"."trips"': ModelLimits(evaluation_timeout_seconds=60)})
    with server.database.transaction(PROJECT) as transaction:
        submission = read_submission(orjson.dumps(plan_json("plan-1", "plan-1")))
        accept_plan(transaction, submission, b"{}", **ORIGIN, evaluation_policy=policy, created_by="developer")

    for path in ("plans/plan-1", "environments/prod"):
        assert EvaluationPolicy.model_validate(admin.get(path).json()["evaluation_policy"]) == policy
    malformed = {**ORIGIN, "evaluation_policy": '{"retries": -1}'}
    answer = admin.post("plans", params=malformed, content=orjson.dumps(plan_json("plan-2")))
    assert (answer.status_code, answer.json()["code"]) == (422, "TM-POLICY")


async def test_a_plan_that_temporal_lost_is_submitted_again(
    scheduled: RunningServer,
    temporal: TemporalServer,
    namespace: str,
    developer: httpx.Client,
    apply_executor: httpx.Client,
) -> None:
    project = Project.parse(namespace)
    with scheduled.database.transaction(project) as transaction:
        for plan_id in ("plan-1", "plan-2"):
            accept(transaction, plan_id)
    gateway = gateway_of(scheduled, temporal, project)
    async with control_worker(scheduled, temporal, namespace) as client:
        for _ in range(2):
            await submit_waiting(scheduled.database, gateway, project, older_than=timedelta(0))
        environment = client.get_workflow_handle_for(EnvironmentWorkflow.run, "environment/prod")
        assert sorted((await environment.query(EnvironmentWorkflow.state)).queue) == ["plan-1", "plan-2"]
        for plan_id in ("plan-2", "plan-1"):
            await asyncio.to_thread(developer.post, f"plans/{plan_id}/cancel")

        async def is_over() -> bool:
            return (await plan_of(developer, "plan-1")).status is Status.ABORTED

        await eventually_async(is_over)
    await gateway.close()


async def test_a_run_by_hand_is_recorded_and_cancelled(
    scheduled: RunningServer,
    temporal: TemporalServer,
    namespace: str,
    developer: httpx.Client,
    apply_executor: httpx.Client,
) -> None:
    promoted(apply_executor, [snapshot_of("trips")], "plan-1")
    async with control_worker(scheduled, temporal, namespace) as client:
        answer = await asyncio.to_thread(developer.post, "runs", json={"environment": "prod", "ignore_cron": True})
        assert answer.status_code == 201
        run = Run.model_validate_json(answer.content)
        assert run.status is Status.SCHEDULED
        beginning = {"environment": "prod", "trigger": "manual"}
        # In Temporal's Web UI the run says what it is, whoever looks at it.
        described = await client.get_workflow_handle(f"run/{run.run_id}").describe()
        assert await described.static_summary() == "Run of prod, started by developer"
        memo = {"environment": "prod", "created_by": "developer", "options": {"ignore_cron": True}}
        assert dict(await described.memo()) == memo
        options = await asyncio.to_thread(apply_executor.post, f"runs/{run.run_id}/begin", json=beginning)
        assert options.json()["ignore_cron"] is True
        cancelled = await asyncio.to_thread(developer.post, f"runs/{run.run_id}/cancel")
        assert cancelled.json()["status"] == "aborted"
        assert cancelled.json()["error_message"] == "Cancelled by developer."
        handle = client.get_workflow_handle(f"run/{run.run_id}")

        async def is_closed() -> bool:
            return (await handle.describe()).close_time is not None

        await eventually_async(is_closed)
        listed = (await asyncio.to_thread(developer.get, "runs", params={"environment": "prod"})).json()
        assert [(r["run_id"], r["error_message"]) for r in listed] == [(run.run_id, "Cancelled by developer.")]


async def test_what_was_terminated_in_temporal_is_over(
    scheduled: RunningServer,
    temporal: TemporalServer,
    namespace: str,
    developer: httpx.Client,
    apply_executor: httpx.Client,
) -> None:
    project = Project.parse(namespace)
    promoted(apply_executor, [snapshot_of("trips")], "plan-1")
    with scheduled.database.transaction(project) as transaction:
        accept(transaction, "plan-2", "plan-1")
        set_plan_status(transaction, "plan-2", Status.IN_PROGRESS, None)
    client = await Client.connect(temporal.address, namespace=namespace)
    gateway = gateway_of(scheduled, temporal, project)
    run_ids = []
    for _ in range(2):
        answer = await asyncio.to_thread(developer.post, "runs", json={"environment": "prod", "ignore_cron": True})
        run_ids.append(answer.raise_for_status().json()["run_id"])
    goes_on, terminated = run_ids
    await client.get_workflow_handle(f"run/{terminated}").terminate()
    await end_lost(scheduled.database, gateway, project, older_than=timedelta(0))
    await gateway.close()
    listed = (await asyncio.to_thread(developer.get, "runs")).json()
    assert {r["run_id"]: r["status"] for r in listed} == {goes_on: "scheduled", terminated: "aborted"}
    plan = await plan_of(developer, "plan-2")
    assert plan.status is Status.ABORTED
    assert plan.error_message is not None
    assert plan.error_message.startswith("Its workflow 'plan/prod/plan-2' was ended in Temporal")


async def test_an_unknown_environment_is_not_run(scheduled: RunningServer, developer: httpx.Client) -> None:
    answer = await asyncio.to_thread(developer.post, "runs", json={"environment": "nowhere"})
    assert answer.status_code == 404
    assert "Environment 'nowhere' was not found." in answer.json()["message"]


async def test_schedules_are_shown_with_their_models(
    scheduled: RunningServer,
    temporal: TemporalServer,
    namespace: str,
    developer: httpx.Client,
    apply_executor: httpx.Client,
) -> None:
    snapshots = [snapshot_of("trips"), snapshot_of("daily"), snapshot_of("hourly", "@hourly", "Europe/Paris")]
    promoted(apply_executor, snapshots, "plan-1")
    async with control_worker(scheduled, temporal, namespace) as client:
        async with ControlApi(scheduled.url, f"{Role.WORKER}-token") as api:
            ((_, groups),) = [(found.environment, found.crons) for found in await api.wanted_schedules()]
            assert [(g.cron, g.timezone, len(g.models)) for g in groups] == [
                ("@daily", "UTC", 2),
                ("@hourly", "Europe/Paris", 1),
            ]
            control = ServerBackedControlActivities(api, EnvironmentSchedules(client))
            await control.sync_schedules(EnvironmentRef(environment="prod"))

        async def shown() -> list[tuple[str, list[str]]]:
            found = (await asyncio.to_thread(developer.get, "schedules")).json()
            return [(s["cron"], s["models"]) for s in found] if len(found) == 2 else []

        assert await eventually_async(shown) == [(group.cron, group.models) for group in groups]
    (environment,) = (await asyncio.to_thread(developer.get, "environments")).json()
    assert environment["models"] == 3
    assert environment["status"] == "ready"
    assert environment["next_run_at"] is not None


def test_a_plan_without_temporal_is_not_kept(
    server: RunningServer, executor: httpx.Client, admin: httpx.Client
) -> None:
    report_gateway(executor)
    answer = admin.post("plans", json=plan_json("plan-1"), params=ORIGIN)
    assert (answer.status_code, answer.json()["code"]) == (503, "TM-TEMPORAL")
    assert admin.get("plans").json() == []
    assert executor.get("plans/plan-1/evaluatable").status_code == 404


def test_plans_that_cannot_be_applied_are_refused(executor: httpx.Client, admin: httpx.Client) -> None:
    nobody = admin.post("plans", json=plan_json("plan-1"), params=ORIGIN)
    assert (nobody.status_code, nobody.json()["code"]) == (422, "TM-GATEWAY")
    report_gateway(executor)
    other = admin.post("plans", json=plan_json("plan-1"), params={**ORIGIN, "gateway": "lake"})
    assert (other.status_code, "warehouse" in other.json()["message"]) == (422, True)
    old = admin.post("plans", json=plan_json("plan-1"), params={**ORIGIN, "sqlmesh_version": "0.1.0"})
    assert (old.status_code, old.json()["code"]) == (409, "TM-VERSION")
    nonsense = admin.post("plans", content=b"[]", params=ORIGIN)
    assert (nonsense.status_code, nonsense.json()["code"]) == (422, "TM-PLAN")
    promoted(executor, [snapshot_of("trips")], "plan-0")
    stale = admin.post("plans", json=plan_json("plan-1", previous_plan_id=None), params=ORIGIN)
    assert (stale.status_code, stale.json()["error_type"]) == (409, "ConflictingPlanError")
    assert "plan-0" in stale.json()["message"]


def test_a_stale_plan_learns_who_was_faster(scheduled: RunningServer, apply_executor: httpx.Client) -> None:
    promoted(apply_executor, [snapshot_of("trips")], "plan-0")
    with scheduled.client(Role.DEVELOPER) as developer, scheduled.client(Role.ADMIN) as admin:
        in_time = developer.post("plans", json=plan_json("plan-1", "plan-0"), params=ORIGIN)
        assert in_time.status_code == 201
        promote_over(apply_executor, "plan-1", "plan-0")
        late = admin.post("plans", json=plan_json("plan-2", "plan-0"), params=ORIGIN)
    assert late.status_code == 409
    assert late.json()["message"].startswith(
        "Another plan (plan-1) was applied by developer to the target environment 'prod' "
        "while your current plan (plan-2) was still in progress"
    )


def test_a_plan_whose_environment_moved_on_while_it_waited_does_not_begin(
    scheduled: RunningServer, apply_executor: httpx.Client
) -> None:
    promoted(apply_executor, [snapshot_of("trips")], "plan-0")
    begins = {"status": "in_progress"}
    with scheduled.client(Role.DEVELOPER) as developer, scheduled.client(Role.WORKER) as worker:
        for plan_id in ("plan-1", "plan-2"):
            developer.post("plans", json=plan_json(plan_id, "plan-0"), params=ORIGIN).raise_for_status()
        worker.post("plans/plan-1/status", json=begins).raise_for_status()
        promote_over(apply_executor, "plan-1", "plan-0")
        again = worker.post("plans/plan-1/status", json=begins)
        late = worker.post("plans/plan-2/status", json=begins)
    assert again.status_code == 204, "it begins again after a crash"
    assert (late.status_code, late.json()["code"]) == (409, "TM-CONFLICT")
    assert late.json()["message"].startswith("Another plan (plan-1) was applied by developer to the target environment")


def hold(worker: httpx.Client, plan_id: str) -> list[str]:
    waiting_for: list[str] = worker.post(f"plans/{plan_id}/stages/0/hold").raise_for_status().json()["waiting_for"]
    return waiting_for


def test_plans_that_each_hold_what_the_other_wants(scheduled: RunningServer, apply_executor: httpx.Client) -> None:
    def replacing(*models: str) -> dict[str, Any]:
        tables = [{"name": model, "version": "1"} for model in models]
        return {
            "stages": [{"index": 0, "name": "promotion"}],
            "documents": [{"catch_up": {"replaced": tables, "waits": True}}],
        }

    with scheduled.client(Role.DEVELOPER) as developer, scheduled.client(Role.WORKER) as worker:
        for plan_id, environment in (("plan-1", "one"), ("plan-2", "two")):
            plan = {"environment": {"name": environment, "plan_id": plan_id, "previous_plan_id": None}}
            developer.post("plans", json=plan, params=ORIGIN).raise_for_status()
            worker.post(f"plans/{plan_id}/status", json={"status": "in_progress"}).raise_for_status()
        for plan_id, model in (("plan-1", "a"), ("plan-2", "b")):
            apply_executor.put(f"plans/{plan_id}/stages", json=replacing(model)).raise_for_status()
            assert hold(worker, plan_id) == []
        for plan_id in ("plan-1", "plan-2"):
            apply_executor.put(f"plans/{plan_id}/stages", json=replacing("a", "b")).raise_for_status()
        assert hold(worker, "plan-1") == ["plan plan-2"]
        assert hold(worker, "plan-2") == [], "the other one has let go of what it held"
        assert hold(worker, "plan-1") == ["plan plan-2"]
        worker.post("plans/plan-2/status", json={"status": "failed", "error_message": "no"}).raise_for_status()
        assert hold(worker, "plan-1") == []
        assert worker.post("plans/plan-2/stages/0/hold").json()["code"] == "TM-OVER"


def test_stages_are_kept_and_closed_with_their_plan(scheduled: RunningServer, apply_executor: httpx.Client) -> None:
    stages = {
        "stages": [{"index": n, "name": f"stage {n}"} for n in range(3)],
        "documents": [{"n": n} for n in range(3)],
    }
    with scheduled.client(Role.DEVELOPER) as developer, scheduled.client(Role.WORKER) as worker:
        developer.post("plans", json=plan_json("plan-1"), params=ORIGIN).raise_for_status()
        worker.post("plans/plan-1/status", json={"status": "in_progress"}).raise_for_status()
        apply_executor.put("plans/plan-1/stages", json=stages).raise_for_status()
        assert apply_executor.get("plans/plan-1/stages/2").json() == {"n": 2}
        for index, status in ((0, "in_progress"), (0, "success"), (1, "in_progress")):
            worker.post(f"plans/plan-1/stages/{index}/status", json={"status": status}).raise_for_status()
        worker.post("plans/plan-1/status", json={"status": "failed", "error_message": "no"}).raise_for_status()
        worker.post("plans/plan-1/status", json={"status": "success"}).raise_for_status()
        again = worker.post("plans/plan-1/status", json={"status": "in_progress"})
        assert (again.status_code, again.json()["code"]) == (409, "TM-OVER")
        plan = Plan.model_validate_json(developer.get("plans/plan-1").content)
    assert (plan.status, plan.error_message) == (Status.FAILED, "no")
    assert [stage.status for stage in plan.stages] == [Status.SUCCESS, Status.FAILED, Status.SKIPPED]
    assert plan.start_at is not None
    assert plan.end_at is not None
