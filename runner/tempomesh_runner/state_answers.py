"""The answering end of the state contract: calls are applied to a real `StateSync`, which is the server's."""

import json
import typing as t

from sqlmesh.core.environment import Environment, EnvironmentStatements
from sqlmesh.core.snapshot import (
    Snapshot,
    SnapshotIdAndVersion,
    SnapshotNameVersion,
    SnapshotTableInfo,
)
from sqlmesh.core.state_sync import StateSync
from sqlmesh.core.state_sync.common import (
    ExpiredBatchRange,
)
from sqlmesh.utils.errors import SQLMeshError

from tempomesh_runner.overlay import SnapshotOverlay
from tempomesh_runner.state_values import ids_of, json_of, parse, parse_ids, parse_intervals
from tempomesh_runner.times import with_datetimes

__all__ = ["READ_METHODS", "WRITE_METHODS", "answer"]

READ_METHODS = frozenset(
    {
        "get_snapshots",
        "get_snapshot_overlays",
        "get_snapshots_stamp",
        "get_snapshots_by_names",
        "snapshots_exist",
        "get_intervals",
        "nodes_exist",
        "get_environment",
        "get_environments",
        "get_environments_summary",
        "max_interval_end_per_model",
        "get_environment_statements",
        "get_versions",
        "get_expired_snapshots",
        "get_expired_environments",
    }
)
"""Methods that anyone who may see the project may call."""

WRITE_METHODS = frozenset(
    {
        "push_snapshots",
        "delete_snapshots",
        "delete_expired_snapshots",
        "invalidate_environment",
        "remove_intervals",
        "promote",
        "finalize",
        "delete_expired_environments",
        "unpause_snapshots",
        "compact_intervals",
        "add_snapshots_intervals",
        "update_auto_restatements",
        "remove_state",
    }
)
"""Methods that only executors may call."""

_PUSHED_AT_ONCE = 200


def answer(state_sync: StateSync, method: str, body: bytes) -> bytes:
    """Applies one call of the contract to a real state and returns its JSON result.

    Raises:
        SQLMeshError: As raised by SQLMesh itself, or if the method is not part of the contract.
    """
    return json.dumps(_answer(state_sync, method, json.loads(body or b"{}"))).encode()


def _answer(state: StateSync, method: str, args: dict[str, t.Any]) -> t.Any:
    match method:
        case "get_snapshots":
            snapshots = state.get_snapshots(parse_ids(args["ids"])).values()
            ids = [[s.name, s.identifier] for s in snapshots]
            return {"snapshots": [json_of(s) for s in snapshots], "intervals": [], "ids": ids}
        case "get_snapshot_overlays":
            kept = state.get_snapshots(parse_ids(args["ids"])).values()
            return [SnapshotOverlay.of(s).model_dump() for s in kept]
        case "get_snapshots_stamp":
            # Only the server, which knows its database, can tell without reading everything.
            return None
        case "get_snapshots_by_names":
            found = state.get_snapshots_by_names(args["names"], _timestamp(args["current_ts"]), args["exclude_expired"])
            return [json_of(s) for s in found]
        case "snapshots_exist":
            return ids_of(state.snapshots_exist(parse_ids(args["ids"])))
        case "get_intervals":
            versions = [SnapshotNameVersion(name=name, version=version) for name, version in args["versions"]]
            # Only the database-backed state has this method; every server's state is one.
            intervals = state.interval_state.get_snapshot_intervals(versions)  # type: ignore[attr-defined]
            return [json_of(i) for i in intervals]
        case "nodes_exist":
            return sorted(state.nodes_exist(args["names"], args["exclude_external"]))
        case "get_environment":
            environment = state.get_environment(args["name"])
            return environment and json_of(environment)
        case "get_environments":
            return [json_of(e) for e in state.get_environments()]
        case "get_environments_summary":
            return [json_of(e) for e in state.get_environments_summary()]
        case "max_interval_end_per_model":
            models = args["models"]
            return state.max_interval_end_per_model(
                args["environment"], None if models is None else set(models), args["ensure_finalized_snapshots"]
            )
        case "get_environment_statements":
            return [json_of(s) for s in state.get_environment_statements(args["environment"])]
        case "get_versions":
            return json_of(state.get_versions(validate=False))
        case "get_expired_snapshots":
            batch = state.get_expired_snapshots(
                batch_range=ExpiredBatchRange.model_validate(args["batch_range"]),
                current_ts=_timestamp(args["current_ts"]),
                ignore_ttl=args["ignore_ttl"],
            )
            return batch and json_of(batch)
        case "get_expired_environments":
            return [json_of(e) for e in state.get_expired_environments(_timestamp(args["current_ts"]), args["name"])]
        case "push_snapshots":
            snapshots = args["snapshots"]
            while snapshots:
                # A few at a time, in the caller's transaction: thousands of them at once take hundreds of megabytes.
                state.push_snapshots([Snapshot.model_validate(s) for s in snapshots[:_PUSHED_AT_ONCE]])
                del snapshots[:_PUSHED_AT_ONCE]
            return None
        case "delete_snapshots":
            return state.delete_snapshots(parse_ids(args["ids"]))
        case "delete_expired_snapshots":
            return state.delete_expired_snapshots(
                ExpiredBatchRange.model_validate(args["batch_range"]),
                args["ignore_ttl"],
                _timestamp(args["current_ts"]),
            )
        case "invalidate_environment":
            return state.invalidate_environment(args["name"], args["protect_prod"])
        case "remove_intervals":
            return state.remove_intervals(
                [
                    (parse(SnapshotIdAndVersion, s), (_timestamp(start), _timestamp(end)))
                    for s, (start, end) in args["intervals"]
                ],
                args["remove_shared_versions"],
            )
        case "promote":
            names, statements = args["no_gaps_snapshot_names"], args["environment_statements"]
            return json_of(
                state.promote(
                    with_datetimes(Environment.model_validate(args["environment"])),
                    None if names is None else set(names),
                    None if statements is None else [EnvironmentStatements.model_validate(s) for s in statements],
                )
            )
        case "finalize":
            return state.finalize(with_datetimes(Environment.model_validate(args["environment"])))
        case "delete_expired_environments":
            return [json_of(e) for e in state.delete_expired_environments(_timestamp(args["current_ts"]), args["name"])]
        case "unpause_snapshots":
            return state.unpause_snapshots(
                [SnapshotTableInfo.model_validate(s) for s in args["snapshots"]], _timestamp(args["unpaused_ts"])
            )
        case "compact_intervals":
            return state.compact_intervals()
        case "add_snapshots_intervals":
            return state.add_snapshots_intervals([parse_intervals(i) for i in args["intervals"]])
        case "update_auto_restatements":
            return state.update_auto_restatements(
                {
                    SnapshotNameVersion(name=name, version=version): _timestamp(ts)
                    for name, version, ts in args["timestamps"]
                }
            )
        case "remove_state":
            state.remove_state(including_backup=args["including_backup"])
            # A server always has a state: an empty one takes the place of what was removed.
            return state.migrate(skip_backup=True)
        case _:
            raise SQLMeshError(f"'{method}' is not a call of the state contract.")


def _timestamp(value: t.Any) -> t.Any:
    """A time in milliseconds, or None. SQLMesh writes it into its SQL as it is, so anything else would become SQL."""
    if value is not None and type(value) is not int:
        raise TypeError(f"a time is a number of milliseconds, not {type(value).__name__}")
    return value
