"""Claims, fences and the one transaction in which a unit ends."""

import threading
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import text, update
from sqlmesh.core.environment import Environment
from sqlmesh.core.snapshot import Snapshot, SnapshotIntervals
from sqlmesh.utils.date import to_timestamp

from server.schema import claims, evaluations, runs, slots
from tcloud.wire.executions import (
    Execution,
    OwnerKind,
    SnapshotRef,
    StartUnit,
    Unit,
    UnitKind,
    UnitStarted,
    Verdict,
)
from tcloud.wire.runs import Run
from tcloud.wire.statuses import Status
from tests.integration.server.conftest import PROJECT, RunningServer
from tests.integration.server.states import remote_state, snapshot_of

DAY = (to_timestamp("2024-01-01"), to_timestamp("2024-01-02"))


@pytest.fixture
def snapshot(executor: httpx.Client) -> Snapshot:
    snapshot = snapshot_of("trips")
    remote_state(executor).push_snapshots([snapshot])
    return snapshot


def prepare_run(executor: httpx.Client, snapshot: Snapshot, run_id: str, units: int = 2, **limits: int) -> None:
    """Begins a run with as many units of one model."""
    executor.post(f"runs/{run_id}/begin", json={"environment": "prod", "trigger": "schedule"}).raise_for_status()
    execution = Execution(
        execution_id=run_id,
        owner_kind=OwnerKind.RUN,
        owner_id=run_id,
        environment="prod",
        naming_info={},
        gateway="warehouse",
        default_catalog=None,
        execution_time="2024-01-10",
        deployability_index={},
        snapshots=[
            SnapshotRef(
                name=snapshot.name,
                identifier=snapshot.identifier,
                version=snapshot.version,
                **limits,
            )
        ],
        units=[Unit(kind=UnitKind.EVALUATE, snapshot=0, interval=DAY, batch_index=n) for n in range(units)],
    )
    executor.put(f"executions/{run_id}", content=execution.model_dump_json()).raise_for_status()


def start(executor: httpx.Client, run_id: str, unit: int = 0, identity: str = "one") -> UnitStarted:
    starting = StartUnit(execution_id=run_id, unit=unit, executor=identity)
    answer = take_turn(executor, {"start": starting.model_dump()}).raise_for_status()
    return UnitStarted.model_validate_json(answer.content)


def take_turn(executor: httpx.Client, turn: dict[str, Any]) -> httpx.Response:
    """Takes one turn; its refusal is given back as if it were that of the whole call."""
    answer = executor.post("units", json={"turns": [turn]}).raise_for_status()
    ((started, refused),) = [(taken["started"], taken["refused"]) for taken in answer.json()]
    return httpx.Response(refused["status"] if refused else 200, json=refused or started, request=answer.request)


def finish(
    executor: httpx.Client, started: UnitStarted, snapshot: Snapshot, status: Status = Status.SUCCESS, **more: Any
) -> httpx.Response:
    intervals = SnapshotIntervals(
        name=snapshot.name,
        identifier=snapshot.identifier,
        version=snapshot.version,
        dev_version=snapshot.dev_version,
        intervals=[DAY],
    )
    body = {
        "evaluation_id": started.evaluation_id,
        "fence": started.fence,
        "status": status,
        "intervals": intervals.dict() if status is Status.SUCCESS else None,
        **more,
    }
    return take_turn(executor, {"finish": body})


def intervals_of(executor: httpx.Client, snapshot: Snapshot) -> list[tuple[int, int]]:
    return remote_state(executor).get_snapshots([snapshot.snapshot_id])[snapshot.snapshot_id].intervals


def evaluations_of(executor: httpx.Client, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = executor.get(f"runs/{run_id}").json()["evaluations"]
    return found


def expire_leases(server: RunningServer) -> None:
    with server.database.transaction(PROJECT) as transaction:
        for table in (claims, evaluations):
            transaction.connection.execute(update(table).values(lease_expires_at=datetime(2020, 1, 1, tzinfo=UTC)))


def test_a_unit_ends_with_its_interval_and_its_record(executor: httpx.Client, snapshot: Snapshot) -> None:
    prepare_run(executor, snapshot, "prod-1")
    started = start(executor, "prod-1")
    assert started.verdict is Verdict.GO
    assert finish(executor, started, snapshot, log="done").status_code == 200
    assert intervals_of(executor, snapshot) == [DAY]
    run = Run.model_validate_json(executor.get("runs/prod-1").content)
    assert run.evaluations is not None
    (evaluation,) = run.evaluations
    assert evaluation.status is Status.SUCCESS
    assert evaluation.model == snapshot.name
    assert evaluation.interval_start == datetime(2024, 1, 1, tzinfo=UTC)
    assert evaluation.log == "done"


def test_a_table_is_claimed_by_one_run_until_its_last_unit_ends(executor: httpx.Client, snapshot: Snapshot) -> None:
    prepare_run(executor, snapshot, "prod-1")
    prepare_run(executor, snapshot, "prod-2")
    first, second = start(executor, "prod-1", 0), start(executor, "prod-1", 1)
    assert start(executor, "prod-2").claimed_by == "run prod-1"
    finish(executor, first, snapshot).raise_for_status()
    assert start(executor, "prod-2").verdict is Verdict.CLAIMED
    finish(executor, second, snapshot, Status.FAILED, error_message="no").raise_for_status()
    assert start(executor, "prod-2").verdict is Verdict.GO


def test_a_finished_unit_is_not_given_out_again(executor: httpx.Client, snapshot: Snapshot) -> None:
    prepare_run(executor, snapshot, "prod-1")
    finish(executor, start(executor, "prod-1"), snapshot, Status.FAILED, error_message="bad SQL").raise_for_status()
    again = start(executor, "prod-1", identity="two")
    assert (again.verdict, again.status, again.error_message) == (Verdict.DONE, Status.FAILED, "bad SQL")


def test_a_unit_is_its_executors_until_the_lease_ends(
    server: RunningServer, executor: httpx.Client, snapshot: Snapshot
) -> None:
    prepare_run(executor, snapshot, "prod-1")
    lost = start(executor, "prod-1")
    early = start(executor, "prod-1", identity="two")
    assert (early.verdict, early.claimed_by) == (Verdict.CLAIMED, "executor one")
    expire_leases(server)

    current = start(executor, "prod-1", identity="two")

    assert (current.verdict, current.evaluation_id, current.recheck) == (Verdict.GO, lost.evaluation_id, True)
    refused = finish(executor, lost, snapshot)
    assert (refused.status_code, refused.json()["code"]) == (409, "TM-FENCED")
    assert intervals_of(executor, snapshot) == []
    assert finish(executor, current, snapshot).status_code == 200
    run = Run.model_validate_json(executor.get("runs/prod-1").content)
    assert run.evaluations is not None
    assert [(e.attempt, e.executor, e.status) for e in run.evaluations] == [(2, "two", Status.SUCCESS)]


def test_a_repeated_end_is_one_end_and_another_is_refused(executor: httpx.Client, snapshot: Snapshot) -> None:
    prepare_run(executor, snapshot, "prod-1")
    started = start(executor, "prod-1")
    assert finish(executor, started, snapshot).status_code == 200
    assert finish(executor, started, snapshot).status_code == 200
    assert finish(executor, started, snapshot, Status.FAILED).status_code == 409
    assert intervals_of(executor, snapshot) == [DAY]


def test_an_end_that_is_refused_starts_nothing(
    server: RunningServer, executor: httpx.Client, snapshot: Snapshot
) -> None:
    prepare_run(executor, snapshot, "prod-1")
    lost = start(executor, "prod-1")
    expire_leases(server)
    assert start(executor, "prod-1", identity="two").verdict is Verdict.GO
    ending = {"evaluation_id": lost.evaluation_id, "fence": lost.fence, "status": "success"}
    starting = {"execution_id": "prod-1", "unit": 1, "executor": "one"}
    assert take_turn(executor, {"finish": ending, "start": starting}).status_code == 409
    assert len(executor.get("runs/prod-1").json()["evaluations"]) == 1


def test_who_lost_its_claim_records_nothing(server: RunningServer, executor: httpx.Client, snapshot: Snapshot) -> None:
    prepare_run(executor, snapshot, "prod-1")
    prepare_run(executor, snapshot, "prod-2")
    lost = start(executor, "prod-1")
    expire_leases(server)
    taken = start(executor, "prod-2")
    assert taken.verdict is Verdict.GO
    renewal = {"executor": "one", "evaluations": {lost.evaluation_id: lost.fence, taken.evaluation_id: taken.fence}}
    assert executor.post("leases", json=renewal).json() == {"lost": [lost.evaluation_id]}
    assert finish(executor, lost, snapshot).status_code == 409
    assert intervals_of(executor, snapshot) == []
    assert finish(executor, taken, snapshot).status_code == 200


def test_an_executor_that_was_lost_is_named(
    server: RunningServer, executor: httpx.Client, worker: httpx.Client, snapshot: Snapshot
) -> None:
    prepare_run(executor, snapshot, "prod-1")
    start(executor, "prod-1", identity="run@one")
    finish(executor, start(executor, "prod-1", 1, "run@one"), snapshot, Status.SCHEDULED).raise_for_status()
    expire_leases(server)

    reason = {"status": "aborted", "error_message": "Cancelled by ada."}
    worker.post("runs/prod-1/status", json=reason).raise_for_status()

    found = {e["batch_index"]: e["error_message"] for e in evaluations_of(executor, "prod-1")}
    assert found == {0: "Executor run@one was lost in the middle of it. Cancelled by ada.", 1: "Cancelled by ada."}


def test_what_no_executor_could_finish_has_failed_and_names_the_last_one(
    server: RunningServer, executor: httpx.Client, worker: httpx.Client, snapshot: Snapshot
) -> None:
    prepare_run(executor, snapshot, "prod-1")
    start(executor, "prod-1", identity="run@one")
    expire_leases(server)

    outcome = {"failed": [0, 1], "errors": {"0": "its executor was lost", "1": "It was refused."}}
    worker.post("executions/prod-1/outcome", json=outcome).raise_for_status()

    found = {e["batch_index"]: (e["status"], e["error_message"]) for e in evaluations_of(executor, "prod-1")}
    assert found == {
        0: ("failed", "No executor could finish it, the last one was run@one: its executor was lost"),
        1: ("failed", "It was refused."),
    }


def test_a_unit_that_is_tried_again_is_a_later_attempt(executor: httpx.Client, snapshot: Snapshot) -> None:
    prepare_run(executor, snapshot, "prod-1")
    failed = {"error_message": "division by zero", "is_retried": True}
    finish(executor, start(executor, "prod-1"), snapshot, Status.SCHEDULED, **failed).raise_for_status()
    (waiting,) = evaluations_of(executor, "prod-1")
    assert (waiting["status"], waiting["attempt"], waiting["error_message"]) == ("scheduled", 1, "division by zero")

    again = start(executor, "prod-1", identity="two")

    assert (again.verdict, again.recheck) == (Verdict.GO, True)
    (taken,) = evaluations_of(executor, "prod-1")
    assert (taken["status"], taken["attempt"], taken["error_message"]) == ("in_progress", 2, None)


def test_a_cancelled_run_stops(executor: httpx.Client, worker: httpx.Client, snapshot: Snapshot) -> None:
    prepare_run(executor, snapshot, "prod-1")
    started = start(executor, "prod-1")
    worker.post("runs/prod-1/status", json={"status": "aborted", "error_message": "cancelled"}).raise_for_status()
    assert start(executor, "prod-1", unit=1).verdict is Verdict.STOP
    renewal = {"executor": "one", "evaluations": {started.evaluation_id: started.fence}}
    assert executor.post("leases", json=renewal).json() == {"lost": [started.evaluation_id]}
    assert finish(executor, started, snapshot, Status.ABORTED).status_code == 200


def test_record_and_interval_come_together_or_not_at_all(
    server: RunningServer, executor: httpx.Client, snapshot: Snapshot
) -> None:
    prepare_run(executor, snapshot, "prod-1")
    started = start(executor, "prod-1")
    with server.database.engine.begin() as connection:
        # Whatever goes wrong after the interval is written takes the interval with it.
        connection.execute(text("ALTER TABLE tempomesh.event_streams ADD CONSTRAINT broken CHECK (last_sequence < 0)"))
    event = {"type": "update_snapshot_evaluation_progress", "payload": {}}
    assert finish(executor, started, snapshot, events=[event]).status_code == 500
    assert intervals_of(executor, snapshot) == []
    assert executor.get("runs/prod-1").json()["evaluations"][0]["status"] == "in_progress"
    with server.database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE tempomesh.event_streams DROP CONSTRAINT broken"))
    assert finish(executor, started, snapshot, events=[event]).status_code == 200
    assert intervals_of(executor, snapshot) == [DAY]


def test_of_many_ends_of_one_attempt_one_counts(executor: httpx.Client, snapshot: Snapshot) -> None:
    prepare_run(executor, snapshot, "prod-1")
    started = start(executor, "prod-1")
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(finish(executor, started, snapshot).status_code)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == 8 * [200]


def test_many_runs_at_once_share_no_table(executor: httpx.Client, snapshot: Snapshot) -> None:
    runs = [f"prod-{number}" for number in range(6)]
    for run_id in runs:
        prepare_run(executor, snapshot, run_id)
    answers: list[UnitStarted] = []
    threads = [threading.Thread(target=lambda r=run_id: answers.append(start(executor, r))) for run_id in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.verdict for answer in answers) == [Verdict.CLAIMED, Verdict.GO] + 4 * [Verdict.SKIP]


def test_one_run_waits_for_a_table_and_later_ones_leave_it_out(executor: httpx.Client, snapshot: Snapshot) -> None:
    for run_id in ("prod-1", "prod-2", "prod-3"):
        prepare_run(executor, snapshot, run_id)
    running = start(executor, "prod-1")
    assert start(executor, "prod-2").verdict is Verdict.CLAIMED
    left_out = start(executor, "prod-3")
    assert left_out.verdict is Verdict.SKIP
    assert left_out.error_message == "It is being evaluated by run prod-1, and run prod-2 waits for it."
    again = start(executor, "prod-3", identity="two")
    assert (again.verdict, again.status) == (Verdict.DONE, Status.SKIPPED)

    finish(executor, running, snapshot).raise_for_status()
    waited = start(executor, "prod-2")

    assert waited.verdict is Verdict.GO
    assert waited.recheck, "the other run may have done the very interval"


def test_a_table_that_somebody_waits_for_is_not_taken_by_a_later_run(
    executor: httpx.Client, snapshot: Snapshot
) -> None:
    for run_id in ("prod-1", "prod-2", "prod-3"):
        prepare_run(executor, snapshot, run_id)
    running = start(executor, "prod-1")
    assert start(executor, "prod-2").verdict is Verdict.CLAIMED
    finish(executor, running, snapshot).raise_for_status()

    late = start(executor, "prod-3")

    assert (late.verdict, late.error_message) == (Verdict.SKIP, "Run prod-2 waits for it.")
    assert start(executor, "prod-2").verdict is Verdict.GO


def test_an_execution_that_has_begun_stays_as_it_is(executor: httpx.Client, snapshot: Snapshot) -> None:
    prepare_run(executor, snapshot, "prod-1")
    prepare_run(executor, snapshot, "prod-1", units=3)
    assert start(executor, "prod-1", unit=2).verdict is Verdict.GO
    document = executor.get("executions/prod-1").content
    assert executor.put("executions/prod-1", content=document).status_code == 409


def test_a_gateway_has_as_many_slots_as_concurrent_tasks(
    server: RunningServer, executor: httpx.Client, snapshot: Snapshot
) -> None:
    gateway = {"name": "warehouse", "type": "postgres", "dialect": "postgres", "concurrent_tasks": 2}
    for identity in ("one", "two"):
        heartbeat = {"identity": identity, "kind": "run", "host": "h", "version": "1", "sqlmesh_version": "1"}
        executor.post("executors", json={**heartbeat, "gateways": [gateway]}).raise_for_status()
    prepare_run(executor, snapshot, "prod-1", units=4)
    first = start(executor, "prod-1", 0)
    assert start(executor, "prod-1", 1, identity="two").verdict is Verdict.GO
    refused = start(executor, "prod-1", 2)
    assert (refused.verdict, refused.claimed_by) == (Verdict.FULL, "the concurrent tasks of gateway 'warehouse'")
    finish(executor, first, snapshot).raise_for_status()
    assert start(executor, "prod-1", 2).verdict is Verdict.GO
    assert start(executor, "prod-1", 3).verdict is Verdict.FULL
    with server.database.transaction(PROJECT) as transaction:
        transaction.connection.execute(update(slots).values(lease_expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert start(executor, "prod-1", 3).verdict is Verdict.GO


def test_a_model_has_as_many_evaluations_at_a_time_as_its_project_allows(
    server: RunningServer, executor: httpx.Client, snapshot: Snapshot
) -> None:
    other_version = snapshot_of("trips", constant=2)
    assert (other_version.name, other_version.version) != (snapshot.name, snapshot.version)
    remote_state(executor).push_snapshots([other_version])
    prepare_run(executor, snapshot, "prod-1", units=3, concurrent_evaluations=2)
    prepare_run(executor, other_version, "dev-1", concurrent_evaluations=2)
    first = start(executor, "prod-1", 0)
    assert start(executor, "dev-1", 0, identity="two").verdict is Verdict.GO
    for run_id, unit in (("prod-1", 1), ("dev-1", 1)):
        refused = start(executor, run_id, unit)
        assert (refused.verdict, refused.claimed_by) == (
            Verdict.CLAIMED,
            f"the concurrent evaluations of {snapshot.name}",
        )
    finish(executor, first, snapshot).raise_for_status()
    # Nothing was left behind: neither the claim nor a place among the concurrent ones.
    prepare_run(executor, snapshot, "prod-2")
    taken = start(executor, "prod-2", 0)
    assert taken.verdict is Verdict.GO
    finish(executor, taken, snapshot).raise_for_status()
    assert start(executor, "prod-1", 1).verdict is Verdict.GO
    assert start(executor, "prod-1", 2).verdict is Verdict.CLAIMED
    expire_leases(server)
    assert start(executor, "prod-1", 2).verdict is Verdict.GO


def test_of_many_at_once_a_model_takes_no_more_than_its_limit(executor: httpx.Client) -> None:
    # Versions of one model, in as many environments: no claim stands between them.
    versions = [snapshot_of("trips", constant=number) for number in range(6)]
    remote_state(executor).push_snapshots(versions)
    for number, version in enumerate(versions):
        prepare_run(executor, version, f"dev{number}-1", concurrent_evaluations=2)
    answers: list[Verdict] = []
    threads = [
        threading.Thread(target=lambda n=number: answers.append(start(executor, f"dev{n}-1").verdict))
        for number in range(len(versions))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == 4 * [Verdict.CLAIMED] + 2 * [Verdict.GO]


def finalize(executor: httpx.Client, snapshots: list[Snapshot], plan_id: str) -> None:
    environment = Environment(
        name="prod",
        snapshots=[s.table_info for s in snapshots],
        start_at="2024-01-01",
        plan_id=plan_id,
        previous_plan_id=None,
        promoted_snapshot_ids=[s.snapshot_id for s in snapshots],
    )
    state = remote_state(executor)
    state.promote(environment)
    state.finalize(environment)


def test_what_a_plan_removes_is_not_started_any_more(executor: httpx.Client, snapshot: Snapshot) -> None:
    kept, new = snapshot, snapshot_of("stations")
    remote_state(executor).push_snapshots([new])
    prepare_run(executor, kept, "prod-1")
    in_flight = start(executor, "prod-1", 0)

    finalize(executor, [new], "removing")

    left_out = start(executor, "prod-1", 1)
    assert (left_out.verdict, left_out.status) == (Verdict.SKIP, Status.PREEMPTED)
    assert left_out.error_message == "Plan removing removed it."
    assert finish(executor, in_flight, snapshot).status_code == 200


def test_what_a_plan_leaves_alone_goes_on(executor: httpx.Client, snapshot: Snapshot) -> None:
    prepare_run(executor, snapshot, "prod-1")
    finalize(executor, [snapshot], "adding")
    assert start(executor, "prod-1").verdict is Verdict.GO


def test_a_run_that_exits_on_an_update_stops_and_lets_finish_what_is_in_flight(
    server: RunningServer, executor: httpx.Client, snapshot: Snapshot
) -> None:
    prepare_run(executor, snapshot, "prod-1")
    with server.database.transaction(PROJECT) as transaction:
        options = {"environment": "prod", "exit_on_env_update": True}
        transaction.connection.execute(update(runs).values(options=options))
    in_flight = start(executor, "prod-1", 0)
    other = snapshot_of("stations")
    remote_state(executor).push_snapshots([other])
    # It leaves alone what the run evaluates: as with SQLMesh, any plan will do.
    finalize(executor, [snapshot, other], "adding")

    assert start(executor, "prod-1", 1).verdict is Verdict.STOP

    renewal = {"executor": "one", "evaluations": {in_flight.evaluation_id: in_flight.fence}}
    assert executor.post("leases", json=renewal).json() == {"lost": []}
    assert finish(executor, in_flight, snapshot).status_code == 200
    run = Run.model_validate_json(executor.get("runs/prod-1").content)
    assert (run.status, run.error_message) == (Status.PREEMPTED, "Plan adding changed environment 'prod'.")


def test_a_turn_that_fails_is_logged_with_its_run(
    executor: httpx.Client,
    snapshot: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepare_run(executor, snapshot, "run-1")
    started = start(executor, "run-1")

    def broken(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    for name in ("finish_unit", "start_unit"):
        monkeypatch.setattr(f"server.api.units.{name}", broken)
    capsys.readouterr()
    starting = {"execution_id": "run-1", "unit": 1, "executor": "one"}
    for answer in (finish(executor, started, snapshot), take_turn(executor, {"start": starting})):
        assert (answer.status_code, answer.json()["code"]) == (500, "TM-INTERNAL")
    # Where lines go depends on whether another test of this process has set logging up.
    printed = [line for line in capsys.readouterr().out.splitlines() if "unexpected_error" in line]
    lines = printed or [record.getMessage() for record in caplog.records if "unexpected_error" in record.getMessage()]
    assert ["run-1" in line for line in lines] == [True, True]
