"""The state contract over HTTP against SQLMesh's own state on the same database."""

import gzip
import json
from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import text
from sqlmesh.core.snapshot import Snapshot, SnapshotIntervals
from sqlmesh.utils.date import to_timestamp

from server.preparation import MigrationRefusedError, prepare
from server.projects import Role
from tempomesh_runner.snapshots import SnapshotStore
from tempomesh_runner.state_answers import READ_METHODS, WRITE_METHODS
from tests.integration.server.conftest import PROJECT, RunningServer
from tests.integration.server.states import environment_of, promoted, remote_state, snapshot_of

FIRST, SECOND = (to_timestamp(f"2024-01-0{day}") for day in (1, 2))


def test_snapshots_are_what_sqlmesh_itself_reads(server: RunningServer, executor: httpx.Client) -> None:
    snapshots = [snapshot_of("trips"), snapshot_of("stations", cron="@hourly", timezone="Europe/Paris")]
    promoted(executor, snapshots, "plan-1")
    remote = remote_state(executor)
    remote.unpause_snapshots(snapshots, "2024-01-05")
    trips = snapshots[0]
    remote.add_snapshots_intervals([_intervals(trips, (FIRST, SECOND))])
    remote.update_auto_restatements({trips.name_version: SECOND})
    ids = [snapshot.snapshot_id for snapshot in snapshots]
    with server.database.transaction(PROJECT) as transaction:
        direct = transaction.state.get_snapshots(ids)
    read = remote.get_snapshots(ids)
    assert {i: s.json() for i, s in read.items()} == {i: s.json() for i, s in direct.items()}
    assert read[trips.snapshot_id].intervals == [(FIRST, SECOND)]
    assert read[trips.snapshot_id].next_auto_restatement_ts == SECOND
    assert read[trips.snapshot_id].unpaused_ts is not None


def test_overlays_bring_kept_snapshots_up_to_date(server: RunningServer, executor: httpx.Client) -> None:
    snapshots = [snapshot_of("trips"), snapshot_of("stations")]
    promoted(executor, snapshots, "plan-1")
    remote = remote_state(executor)
    ids = [snapshot.snapshot_id for snapshot in snapshots]
    kept = remote.get_snapshots(ids)
    trips = snapshots[0]
    remote.unpause_snapshots(snapshots, "2024-01-05")
    remote.add_snapshots_intervals([_intervals(trips, (FIRST, SECOND))])
    remote.update_auto_restatements({trips.name_version: SECOND})
    for overlay in remote.get_snapshot_overlays(ids):
        assert overlay.belongs_to(kept[overlay.snapshot_id])
        overlay.lay_over(kept[overlay.snapshot_id])
    with server.database.transaction(PROJECT) as transaction:
        direct = transaction.state.get_snapshots(ids)
    assert {i: s.json() for i, s in kept.items()} == {i: s.json() for i, s in direct.items()}


def test_kept_snapshots_follow_state_whatever_changes_in_it(server: RunningServer, executor: httpx.Client) -> None:
    snapshots = [snapshot_of("trips"), snapshot_of("stations")]
    promoted(executor, snapshots, "plan-1")
    remote = remote_state(executor)
    trips = snapshots[0]
    store = SnapshotStore(remote, remote._transport)
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: remote.add_snapshots_intervals([_intervals(trips, (FIRST, SECOND))]),
        lambda: remote.unpause_snapshots(snapshots, "2024-01-05"),
        lambda: remote.update_auto_restatements({trips.name_version: SECOND}),
        lambda: remote.update_auto_restatements({trips.name_version: None}),
        lambda: remote.remove_intervals([(trips, (FIRST, SECOND))]),
        lambda: remote.compact_intervals(),
        lambda: remote.delete_snapshots([snapshots[1]]),
        lambda: remote.push_snapshots([snapshots[1]]),
    ]
    for change in changes:
        change()
        for _ in range(3):
            kept = store.current(snapshots)
            with server.database.transaction(PROJECT) as transaction:
                direct = transaction.state.get_snapshots([s.snapshot_id for s in snapshots])
            assert {i: s.json() for i, s in kept.items()} == {i: s.json() for i, s in direct.items()}
            for snapshot in kept.values():
                # As a plan's stage and automatic restatements do to the snapshots that they are given.
                snapshot.intervals.append((SECOND, SECOND + 1))
                snapshot.dev_intervals = [(FIRST, SECOND)]
                snapshot.next_auto_restatement_ts = FIRST


def test_the_stamp_of_snapshots_changes_only_with_them(executor: httpx.Client) -> None:
    trips, stations = snapshot_of("trips"), snapshot_of("stations")
    promoted(executor, [trips, stations], "plan-1")
    remote = remote_state(executor)
    before = remote.get_snapshots_stamp([trips])
    remote.add_snapshots_intervals([_intervals(stations, (FIRST, SECOND))])
    assert remote.get_snapshots_stamp([trips]) == before
    remote.add_snapshots_intervals([_intervals(trips, (FIRST, SECOND))])
    assert remote.get_snapshots_stamp([trips]) != before


def test_environments_round_trip(server: RunningServer, executor: httpx.Client) -> None:
    environment = promoted(executor, [snapshot_of("trips")], "plan-1")
    remote = remote_state(executor)
    with server.database.transaction(PROJECT) as transaction:
        direct = transaction.state.get_environment("prod")
        summaries = transaction.state.get_environments_summary()
    assert direct is not None
    read = remote.get_environment("prod")
    assert read is not None
    assert read.json() == direct.json()
    assert remote.get_environments_summary() == summaries
    assert remote.get_environment("nowhere") is None
    assert remote.max_interval_end_per_model("prod") == {}
    assert remote.nodes_exist([environment.snapshots[0].name, "no"]) == {environment.snapshots[0].name}


def test_pending_restatements_survive_the_wire(executor: httpx.Client) -> None:
    snapshot = snapshot_of("trips")
    remote = remote_state(executor)
    remote.push_snapshots([snapshot])
    pending = _intervals(snapshot, (FIRST, SECOND))
    pending.pending_restatement_intervals = [(FIRST, SECOND)]
    remote.add_snapshots_intervals([pending])
    read = remote.get_snapshots([snapshot.snapshot_id])[snapshot.snapshot_id]
    assert read.pending_restatement_intervals == [(FIRST, SECOND)]


def test_a_promotion_may_be_repeated_and_answers_the_same(executor: httpx.Client) -> None:
    old, new = snapshot_of("trips"), snapshot_of("stations")
    promoted(executor, [old], "plan-1")
    remote = remote_state(executor)
    remote.push_snapshots([new])
    environment = environment_of([new], "plan-2", previous_plan_id="plan-1")
    first = remote.promote(environment, set())
    assert [s.name for s in first.removed] == [old.name]
    again = remote.promote(environment, set())
    assert (again.added, again.removed) == (first.added, first.removed)
    assert again.removed_environment_naming_info == first.removed_environment_naming_info


def test_sqlmesh_errors_keep_their_class(executor: httpx.Client) -> None:
    snapshot = snapshot_of("trips")
    promoted(executor, [snapshot], "plan-1")
    rival = environment_of([snapshot], "plan-3", previous_plan_id="plan-2")
    answer = executor.post(
        "state/promote",
        json={
            "environment": json.loads(rival.json()),
            "no_gaps_snapshot_names": [],
            "environment_statements": None,
        },
    )
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "ConflictingPlanError"
    assert "plan-1" in answer.json()["message"]


def test_a_failed_call_leaves_nothing(server: RunningServer, executor: httpx.Client) -> None:
    environment = environment_of([snapshot_of("missing")], "plan-1")
    body = {"environment": json.loads(environment.json()), "no_gaps_snapshot_names": [], "environment_statements": None}
    assert executor.post("state/promote", json=body).status_code == 422
    assert remote_state(executor).get_environments() == []


@pytest.mark.parametrize("method", sorted(WRITE_METHODS))
def test_only_executors_change_state(server: RunningServer, method: str) -> None:
    for role in (Role.ADMIN, Role.WORKER):
        with server.client(role) as client:
            answer = client.post(f"state/{method}", json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "TM-ROLE")


def test_unknown_calls_are_refused(executor: httpx.Client) -> None:
    assert executor.post("state/migrate", json={}).status_code == 404
    for body in (b"{}", b"[", b'{"versions": 1}'):
        refused = executor.post("state/get_intervals", content=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "TM-STATE"), body
    assert READ_METHODS.isdisjoint(WRITE_METHODS)


def test_bodies_may_be_compressed_both_ways(executor: httpx.Client) -> None:
    snapshots = [snapshot_of(f"model_{number}") for number in range(20)]
    body = gzip.compress(json.dumps({"snapshots": [json.loads(s.json()) for s in snapshots]}).encode())
    executor.post("state/push_snapshots", content=body, headers={"Content-Encoding": "gzip"}).raise_for_status()
    ids = [[s.name, s.identifier] for s in snapshots]
    answer = executor.post("state/get_snapshots", json={"ids": ids})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.json()["snapshots"]) == 20
    nothing: dict[str, list[object]] = {"snapshots": [], "intervals": [], "ids": []}
    assert executor.post("state/get_snapshots", json={"ids": []}).json() == nothing


def _intervals(snapshot: Snapshot, interval: tuple[int, int]) -> SnapshotIntervals:
    assert snapshot.version
    return SnapshotIntervals(
        name=snapshot.name,
        identifier=snapshot.identifier,
        version=snapshot.version,
        dev_version=snapshot.dev_version,
        intervals=[interval],
    )


def test_state_is_not_migrated_beside_a_run(server: RunningServer, executor: httpx.Client) -> None:
    executor.post("runs/prod-1/begin", json={"environment": "prod", "trigger": "manual"}).raise_for_status()
    with server.database.transaction(PROJECT) as transaction:
        transaction.connection.execute(
            text(f"UPDATE {PROJECT.state_schema}._versions SET schema_version = schema_version - 1")
        )
    with pytest.raises(MigrationRefusedError, match=r"but: Run 'prod-1' is in progress\. Start the version before"):
        prepare(server.database, [PROJECT], server.settings.clients)
    executor.post("runs/prod-1/status", json={"status": "success"}).raise_for_status()
    prepare(server.database, [PROJECT], server.settings.clients)
