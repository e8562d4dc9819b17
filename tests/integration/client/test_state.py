"""State over HTTP with snapshots kept on disk: never stale, never of something that is gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmesh.core.plan import EvaluatablePlan
from sqlmesh.core.snapshot import Snapshot, SnapshotId, SnapshotIntervals
from sqlmesh.utils.date import to_timestamp
from sqlmesh.utils.errors import ConflictingPlanError, SQLMeshError

from tcloud.api.client import Api
from tcloud.errors import NotAllowedError
from tcloud.scheduler import RemoteContext
from tcloud.scheduler.state import CloudStateSync
from tempomesh_runner.state import RemoteStateSync
from tests.integration.client.conftest import Machine


class CountingApi(Api):
    """An `Api` that remembers which calls of the state contract it made, with the size of their answers."""

    def __init__(self, url: str, token: str):
        super().__init__(url, token)
        self.calls: list[str] = []

    def state(self, method: str, body: bytes) -> bytes:
        self.calls.append(method)
        return super().state(method, body)


@pytest.fixture
def plan(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> EvaluatablePlan:
    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)
    machine.server.beat("warehouse")
    context = RemoteContext(paths=str(machine.folder / "project"))
    try:
        return context.plan_builder("prod", skip_tests=True).build().to_evaluatable()
    finally:
        context.close()


@pytest.fixture
def executor(machine: Machine, plan: EvaluatablePlan) -> Iterator[RemoteStateSync]:
    """The whole contract, as executors have it, with the project's snapshots pushed."""
    with Api(machine.server.url, "executor") as api:
        state = RemoteStateSync(api.state)
        state.push_snapshots(plan.new_snapshots)
        yield state


@pytest.fixture
def api(machine: Machine) -> Iterator[CountingApi]:
    with CountingApi(machine.server.url, "viewer") as api:
        yield api


@pytest.fixture
def state(api: CountingApi, tmp_path: Path) -> CloudStateSync:
    return CloudStateSync(api, tmp_path / "kept")


def orders(plan: EvaluatablePlan) -> Snapshot:
    return next(s for s in plan.new_snapshots if "orders" in s.name)


def test_the_second_read_fetches_overlays_only(
    state: CloudStateSync, api: CountingApi, executor: RemoteStateSync, plan: EvaluatablePlan
) -> None:
    first = state.get_snapshots(plan.new_snapshots)
    second = state.get_snapshots(plan.new_snapshots)
    assert api.calls == ["get_snapshots", "get_snapshot_overlays"]
    assert {i: s.json() for i, s in first.items()} == {i: s.json() for i, s in second.items()}
    assert {i: s.json() for i, s in second.items()} == {
        i: s.json() for i, s in executor.get_snapshots(plan.new_snapshots).items()
    }


def test_what_changes_is_never_stale(state: CloudStateSync, executor: RemoteStateSync, plan: EvaluatablePlan) -> None:
    snapshot = orders(plan)
    state.get_snapshots([snapshot])
    interval = (to_timestamp("2024-01-01"), to_timestamp("2024-01-03"))
    executor.add_snapshots_intervals(
        [
            SnapshotIntervals(
                name=snapshot.name,
                identifier=snapshot.identifier,
                version=snapshot.version,
                dev_version=snapshot.dev_version,
                intervals=[interval],
                dev_intervals=[],
            )
        ]
    )
    executor.unpause_snapshots([snapshot], "2024-01-02")
    kept = state.get_snapshots([snapshot])[snapshot.snapshot_id]
    assert kept.intervals == [interval]
    assert kept.unpaused_ts == to_timestamp("2024-01-02")


def test_what_is_gone_is_not_shown(state: CloudStateSync, executor: RemoteStateSync, plan: EvaluatablePlan) -> None:
    snapshot = orders(plan)
    assert state.get_snapshots([snapshot])
    executor.delete_snapshots([snapshot])
    assert state.get_snapshots([snapshot]) == {}


def test_what_was_pushed_again_is_not_confused_with_what_was_kept(
    state: CloudStateSync, executor: RemoteStateSync, plan: EvaluatablePlan
) -> None:
    snapshot = orders(plan)
    state.get_snapshots([snapshot])
    executor.delete_snapshots([snapshot])
    again = snapshot.copy(update={"created_ts": snapshot.created_ts + 1, "ttl": "in 3 days"})
    executor.push_snapshots([again])
    for _ in range(2):
        assert state.get_snapshots([snapshot])[snapshot.snapshot_id].ttl == "in 3 days"


def test_unknown_snapshots_are_left_out(state: CloudStateSync, executor: RemoteStateSync) -> None:
    assert state.get_snapshots([SnapshotId(name="nope", identifier="1")]) == {}
    assert state.get_snapshots([]) == {}


def test_errors_are_sqlmeshs_own(machine: Machine, executor: RemoteStateSync, plan: EvaluatablePlan) -> None:
    executor.promote(plan.environment)
    with Api(machine.server.url, "executor") as api:
        state = CloudStateSync(api, machine.folder / "kept")
        with pytest.raises(ConflictingPlanError):
            state.promote(plan.environment.copy(update={"previous_plan_id": "another", "plan_id": "third"}))
        with pytest.raises(SQLMeshError):
            state.finalize(plan.environment.copy(update={"plan_id": "fourth"}))


def test_a_person_does_not_write(state: CloudStateSync, plan: EvaluatablePlan) -> None:
    with pytest.raises(NotAllowedError, match="submit a plan"):
        state.push_snapshots(plan.new_snapshots)


def test_invalidate(machine: Machine, executor: RemoteStateSync, plan: EvaluatablePlan, tmp_path: Path) -> None:
    executor.promote(plan.environment)
    executor.finalize(plan.environment)
    with Api(machine.server.url, "developer") as api, pytest.raises(SQLMeshError, match="production"):
        CloudStateSync(api, tmp_path / "kept").invalidate_environment("prod")
