"""Snapshots that a process keeps: they are immutable but for what state says about them."""

import json
import typing as t
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError
from sqlmesh import __version__
from sqlmesh.core.plan.definition import EvaluatablePlan
from sqlmesh.core.snapshot import Snapshot, SnapshotId, SnapshotIdLike
from sqlmesh.utils.errors import SQLMeshError

from tempomesh_runner.overlay import MutableFields
from tempomesh_runner.state import RemoteStateSync, Transport

__all__ = ["GET_PLAN", "SnapshotStore"]

GET_PLAN = "get_plan"
"""A call beside the state contract, answered by the executor itself: the stored plan of an id."""

_KEPT_PLANS = 2


class _Seen(t.NamedTuple):
    """Snapshots as they were in state when it had a stamp."""

    stamp: str
    snapshots: list[tuple[Snapshot, MutableFields]]

    def is_of(self, ids: Sequence[SnapshotId], kept: Mapping[SnapshotId, Snapshot]) -> bool:
        """Whether it is of these snapshots, and of the very objects that are kept of them now."""
        return len(ids) == len(self.snapshots) and all(
            kept[snapshot_id] is snapshot for snapshot_id, (snapshot, _) in zip(ids, self.snapshots, strict=True)
        )


class SnapshotStore:
    """Loads snapshots and plans, each once.

    Args:
        state: The project's state.
        transport: Carries `GET_PLAN`.
    """

    def __init__(self, state: RemoteStateSync, transport: Transport):
        self._state = state
        self._transport = transport
        self._kept: dict[SnapshotId, Snapshot] = {}
        self._seen: _Seen | None = None
        self._plans: OrderedDict[str, EvaluatablePlan] = OrderedDict()
        self._seeds: dict[str, dict[SnapshotId, Snapshot]] = {}

    def get(self, ids: Iterable[SnapshotIdLike]) -> dict[SnapshotId, Snapshot]:
        """Snapshots by id; their intervals and other mutable fields are as of when they were loaded."""
        wanted = [s.snapshot_id for s in ids]
        missing = [s for s in wanted if s not in self._kept]
        if missing:
            self._kept.update(self._state.get_snapshots(missing))
        return {s: self._kept[s] for s in wanted if s in self._kept}

    def current(self, ids: Iterable[SnapshotIdLike]) -> dict[SnapshotId, Snapshot]:
        """Snapshots by id as they are now, intervals included; state is asked for what may have changed in kept ones.

        A snapshot of one environment changes with the plans of others: what was paused may have been promoted there.
        """
        wanted = [s.snapshot_id for s in ids]
        kept = [s for s in wanted if s in self._kept]
        if kept:
            self._refresh(kept)
        return self.get(wanted)

    def _refresh(self, kept: list[SnapshotId]) -> None:
        # Before the overlays: what changes in between makes the next stamp another.
        stamp = self._state.get_snapshots_stamp(kept)
        seen = self._seen
        if stamp is not None and seen is not None and stamp == seen.stamp and seen.is_of(kept, self._kept):
            for snapshot, fields in seen.snapshots:
                fields.restore(snapshot)
            return
        self._seen = None
        overlays = {o.snapshot_id: o for o in self._state.get_snapshot_overlays(kept)}
        current = []
        for snapshot_id in kept:
            overlay, snapshot = overlays.get(snapshot_id), self._kept[snapshot_id]
            if overlay is not None and overlay.belongs_to(snapshot):
                overlay.lay_over(snapshot)
                current.append((snapshot, MutableFields.of(snapshot)))
            else:
                del self._kept[snapshot_id]
        if stamp is not None and len(current) == len(kept):
            self._seen = _Seen(stamp, current)

    def of_versions(self, versions: Mapping[SnapshotId, str | None]) -> dict[SnapshotId, Snapshot]:
        """Snapshots as they were loaded, of the versions that an execution was prepared with.

        Raises:
            SQLMeshError: If state no longer has one of them, or has it with another version.
        """
        for snapshot_id, version in versions.items():
            # Removed by the janitor and pushed again, categorized otherwise, a snapshot has another physical table.
            if (kept := self._kept.get(snapshot_id)) and kept.version != version:
                del self._kept[snapshot_id]
        found = self.get(versions)
        for snapshot_id, version in versions.items():
            if snapshot_id not in found or found[snapshot_id].version != version:
                raise SQLMeshError(
                    f"Snapshot {snapshot_id} of version '{version}' is not in the project's state any more. "
                    "It was removed after this work was prepared: plan or run again."
                )
        return found

    def plan(self, plan_id: str) -> EvaluatablePlan:
        """A stored plan, with the content of its seeds.

        Raises:
            SQLMeshError: If it is no plan, or none of this SQLMesh.
        """
        if plan_id not in self._plans:
            try:
                self._plans[plan_id] = EvaluatablePlan.model_validate(self._plan_json(plan_id))
            except ValidationError as error:
                first = error.errors(include_input=False, include_url=False)[0]
                where = ".".join(str(part) for part in first["loc"])
                raise SQLMeshError(
                    f"The plan cannot be read by SQLMesh {__version__} ({where}: {first['msg']}): plan again with "
                    "`tcloud sqlmesh plan`."
                ) from error
            while len(self._plans) > _KEPT_PLANS:
                self._plans.popitem(last=False)
        return self._plans[plan_id]

    def with_seed(self, snapshot: Snapshot, plan_id: str) -> Snapshot:
        """A seed with its content, which only the plan that brought it has: state keeps seeds without."""
        if plan_id not in self._seeds:
            seeds = [s for s in self._plan_json(plan_id)["new_snapshots"] if _is_seed(s)]
            loaded = [Snapshot.model_validate(seed) for seed in seeds]
            self._seeds[plan_id] = {seed.snapshot_id: seed for seed in loaded}
        return self._seeds[plan_id].get(snapshot.snapshot_id, snapshot)

    def _plan_json(self, plan_id: str) -> dict[str, t.Any]:
        answer = self._transport(GET_PLAN, json.dumps({"plan_id": plan_id}).encode())
        return t.cast(dict[str, t.Any], json.loads(answer))


def _is_seed(snapshot: dict[str, t.Any]) -> bool:
    kind = snapshot.get("node", {}).get("kind", {})
    return isinstance(kind, dict) and kind.get("name") == "SEED"
