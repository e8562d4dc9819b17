"""SQLMesh's `StateSync`, spoken over a wire.

`RemoteStateSync` turns each call into a method name and a JSON body and hands them to a transport (HTTP on a
client, a pipe in a runner process). `state_answers` is the other end.
Names and meanings are those of `sqlmesh.core.state_sync.base.StateSync`.
"""

import json
import typing as t
from collections.abc import Callable, Collection, Iterable, Sequence

from sqlmesh.core.environment import Environment, EnvironmentStatements, EnvironmentSummary
from sqlmesh.core.snapshot import (
    Snapshot,
    SnapshotId,
    SnapshotIdAndVersion,
    SnapshotIdAndVersionLike,
    SnapshotIdLike,
    SnapshotInfoLike,
    SnapshotIntervals,
    SnapshotNameVersion,
)
from sqlmesh.core.snapshot.definition import Interval
from sqlmesh.core.state_sync import StateSync, Versions
from sqlmesh.core.state_sync.common import (
    EnvironmentWithStatements,
    ExpiredBatchRange,
    ExpiredSnapshotBatch,
    PromotionResult,
    StateStream,
)
from sqlmesh.utils.date import TimeLike, to_timestamp
from sqlmesh.utils.errors import SQLMeshError

from tempomesh_runner.overlay import SnapshotOverlay
from tempomesh_runner.state_values import ids_of, json_of, parse, parse_ids, parse_intervals

__all__ = ["RemoteStateSync", "Transport"]

Transport = Callable[[str, bytes], bytes]
"""Sends one call (method name, JSON arguments) and returns its JSON result; raises SQLMesh's errors."""

_SERVER_SIDE_ONLY = "The state of a Tempomesh project is kept by its server: only the server {what}."


class RemoteStateSync(StateSync):
    """A `StateSync` whose state is somewhere else.

    Args:
        transport: Carries one call to the server and its answer back.
    """

    def __init__(self, transport: Transport):
        self._transport = transport

    # Reading

    def get_snapshots(self, snapshot_ids: Iterable[SnapshotIdLike]) -> dict[SnapshotId, Snapshot]:
        result = self._call("get_snapshots", ids=ids_of(snapshot_ids))
        snapshots = [Snapshot.model_validate(s) for s in result["snapshots"]]
        Snapshot.hydrate_with_intervals_by_version(snapshots, [parse_intervals(i) for i in result["intervals"]])
        return {s.snapshot_id: s for s in snapshots}

    def get_snapshot_overlays(self, snapshot_ids: Iterable[SnapshotIdLike]) -> list[SnapshotOverlay]:
        """What may have changed in snapshots that the caller has kept; of those that no longer exist, nothing."""
        return [SnapshotOverlay(**o) for o in self._call("get_snapshot_overlays", ids=ids_of(snapshot_ids))]

    def get_snapshots_stamp(self, snapshot_ids: Iterable[SnapshotIdLike]) -> str | None:
        """What is another if anything in state has changed that overlays of these snapshots would say.

        It may change when they do not. None if the other end cannot tell.
        """
        return t.cast(str | None, self._call("get_snapshots_stamp", ids=ids_of(snapshot_ids)))

    def get_snapshots_by_names(
        self, snapshot_names: Iterable[str], current_ts: int | None = None, exclude_expired: bool = True
    ) -> set[SnapshotIdAndVersion]:
        result = self._call(
            "get_snapshots_by_names",
            names=sorted(snapshot_names),
            current_ts=current_ts,
            exclude_expired=exclude_expired,
        )
        return {parse(SnapshotIdAndVersion, s) for s in result}

    def snapshots_exist(self, snapshot_ids: Iterable[SnapshotIdLike]) -> set[SnapshotId]:
        return parse_ids(self._call("snapshots_exist", ids=ids_of(snapshot_ids)))

    def refresh_snapshot_intervals(self, snapshots: Collection[Snapshot]) -> list[Snapshot]:
        versioned = [s for s in snapshots if s.version]
        result = self._call("get_intervals", versions=[[s.name, s.version] for s in versioned]) if versioned else []
        for snapshot in snapshots:
            snapshot.intervals = []
            snapshot.dev_intervals = []
        return Snapshot.hydrate_with_intervals_by_version(snapshots, [parse_intervals(i) for i in result])

    def nodes_exist(self, names: Iterable[str], exclude_external: bool = False) -> set[str]:
        return set(self._call("nodes_exist", names=sorted(names), exclude_external=exclude_external))

    def get_environment(self, environment: str) -> Environment | None:
        result = self._call("get_environment", name=environment)
        return Environment.model_validate(result) if result else None

    def get_environments(self) -> list[Environment]:
        return [Environment.model_validate(e) for e in self._call("get_environments")]

    def get_environments_summary(self) -> list[EnvironmentSummary]:
        return [EnvironmentSummary.model_validate(e) for e in self._call("get_environments_summary")]

    def max_interval_end_per_model(
        self, environment: str, models: set[str] | None = None, ensure_finalized_snapshots: bool = False
    ) -> dict[str, int]:
        return t.cast(
            dict[str, int],
            self._call(
                "max_interval_end_per_model",
                environment=environment,
                models=None if models is None else sorted(models),
                ensure_finalized_snapshots=ensure_finalized_snapshots,
            ),
        )

    def get_environment_statements(self, environment: str) -> list[EnvironmentStatements]:
        return [
            EnvironmentStatements.model_validate(s)
            for s in self._call("get_environment_statements", environment=environment)
        ]

    def get_expired_snapshots(
        self, *, batch_range: ExpiredBatchRange, current_ts: int | None = None, ignore_ttl: bool = False
    ) -> ExpiredSnapshotBatch | None:
        result = self._call(
            "get_expired_snapshots",
            batch_range=json_of(batch_range),
            current_ts=current_ts,
            ignore_ttl=ignore_ttl,
        )
        return ExpiredSnapshotBatch.model_validate(result) if result else None

    def get_expired_environments(self, current_ts: int, name: str | None = None) -> list[EnvironmentSummary]:
        result = self._call("get_expired_environments", current_ts=current_ts, name=name)
        return [EnvironmentSummary.model_validate(e) for e in result]

    def export(self, environment_names: list[str] | None = None) -> StateStream:
        versions = self.get_versions(validate=True)
        environments = self.get_environments()
        if environment_names:
            by_name = {e.name: e for e in environments}
            for name in environment_names:
                if name not in by_name:
                    raise SQLMeshError(f"No such environment: {name}")
            environments = [by_name[name] for name in environment_names]
        snapshot_ids = {s.snapshot_id for e in environments for s in e.snapshots}
        return StateStream.from_iterators(
            versions=versions,
            snapshots=iter(self.get_snapshots(snapshot_ids).values()),
            environments=(
                EnvironmentWithStatements(environment=e, statements=self.get_environment_statements(e.name))
                for e in environments
            ),
        )

    def state_type(self) -> str:
        return "cloud"

    def recycle(self) -> None:
        """Nothing to release: the transport owns its connections."""

    def close(self) -> None:
        """Nothing to release: the transport owns its connections."""

    def _get_versions(self) -> Versions:
        return Versions.model_validate(self._call("get_versions"))

    # Writing

    def push_snapshots(self, snapshots: Iterable[Snapshot]) -> None:
        self._call("push_snapshots", snapshots=[json_of(s) for s in snapshots])

    def delete_snapshots(self, snapshot_ids: Iterable[SnapshotIdLike]) -> None:
        self._call("delete_snapshots", ids=ids_of(snapshot_ids))

    def delete_expired_snapshots(
        self, batch_range: ExpiredBatchRange, ignore_ttl: bool = False, current_ts: int | None = None
    ) -> None:
        self._call(
            "delete_expired_snapshots",
            batch_range=json_of(batch_range),
            ignore_ttl=ignore_ttl,
            current_ts=current_ts,
        )

    def invalidate_environment(self, name: str, protect_prod: bool = True) -> None:
        self._call("invalidate_environment", name=name, protect_prod=protect_prod)

    def remove_intervals(
        self,
        snapshot_intervals: Sequence[tuple[SnapshotIdAndVersionLike, Interval]],
        remove_shared_versions: bool = False,
    ) -> None:
        self._call(
            "remove_intervals",
            intervals=[[json_of(s.id_and_version), list(interval)] for s, interval in snapshot_intervals],
            remove_shared_versions=remove_shared_versions,
        )

    def promote(
        self,
        environment: Environment,
        no_gaps_snapshot_names: set[str] | None = None,
        environment_statements: list[EnvironmentStatements] | None = None,
    ) -> PromotionResult:
        result = self._call(
            "promote",
            environment=json_of(environment),
            no_gaps_snapshot_names=None if no_gaps_snapshot_names is None else sorted(no_gaps_snapshot_names),
            environment_statements=(
                None if environment_statements is None else [json_of(s) for s in environment_statements]
            ),
        )
        return parse(PromotionResult, result)

    def finalize(self, environment: Environment) -> None:
        self._call("finalize", environment=json_of(environment))

    def delete_expired_environments(
        self, current_ts: int | None = None, name: str | None = None
    ) -> list[EnvironmentSummary]:
        result = self._call("delete_expired_environments", current_ts=current_ts, name=name)
        return [EnvironmentSummary.model_validate(e) for e in result]

    def unpause_snapshots(self, snapshots: Collection[SnapshotInfoLike], unpaused_dt: TimeLike) -> None:
        self._call(
            "unpause_snapshots",
            snapshots=[json_of(s.table_info) for s in snapshots],
            unpaused_ts=to_timestamp(unpaused_dt),
        )

    def compact_intervals(self) -> None:
        self._call("compact_intervals")

    def add_snapshots_intervals(self, snapshots_intervals: Sequence[SnapshotIntervals]) -> None:
        self._call("add_snapshots_intervals", intervals=[json_of(i) for i in snapshots_intervals])

    def update_auto_restatements(self, next_auto_restatement_ts: dict[SnapshotNameVersion, int | None]) -> None:
        self._call(
            "update_auto_restatements",
            timestamps=[[v.name, v.version, ts] for v, ts in next_auto_restatement_ts.items()],
        )

    # What only the server does

    def remove_state(self, including_backup: bool = False) -> None:
        self._call("remove_state", including_backup=including_backup)

    def migrate(self, skip_backup: bool = False, promoted_snapshots_only: bool = True) -> None:
        raise SQLMeshError(_SERVER_SIDE_ONLY.format(what="migrates it, when it starts"))

    def rollback(self) -> None:
        raise SQLMeshError(_SERVER_SIDE_ONLY.format(what="migrates it, when it starts"))

    def import_(self, stream: StateStream, clear: bool = True) -> None:
        raise SQLMeshError(_SERVER_SIDE_ONLY.format(what="changes it, by plans and runs"))

    def _call(self, method: str, **arguments: t.Any) -> t.Any:
        return json.loads(self._transport(method, json.dumps(arguments).encode()))
