"""Snapshots that a process keeps: they are immutable but for what state says about them."""

import json
import typing as t
from collections import OrderedDict
from collections.abc import Iterable

from sqlmesh.core.environment import Environment
from sqlmesh.core.plan.definition import EvaluatablePlan
from sqlmesh.core.snapshot import Snapshot, SnapshotId, SnapshotIdLike

from tempomesh_runner.state import RemoteStateSync, Transport

__all__ = ["GET_PLAN", "SnapshotStore"]

GET_PLAN = "get_plan"
"""A call beside the state contract, answered by the executor itself: the stored plan of an id."""

_KEPT_PLANS = 2


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
        self._environments: dict[str, tuple[str, int | None]] = {}
        self._plans: OrderedDict[str, EvaluatablePlan] = OrderedDict()
        self._seeds: dict[str, dict[SnapshotId, Snapshot]] = {}

    def get(self, ids: Iterable[SnapshotIdLike]) -> dict[SnapshotId, Snapshot]:
        """Snapshots by id; their intervals and other mutable fields are as of when they were loaded."""
        wanted = [s.snapshot_id for s in ids]
        missing = [s for s in wanted if s not in self._kept]
        if missing:
            self._kept.update(self._state.get_snapshots(missing))
        return {s: self._kept[s] for s in wanted if s in self._kept}

    def of_environment(self, environment: Environment) -> dict[SnapshotId, Snapshot]:
        """The snapshots of an environment, fresh in everything but their intervals.

        What is mutable about them changes with plans (unpaused, unrestorable), so a new plan means loading them again;
        models that restate themselves have a clock of their own and are always loaded.
        """
        version = (environment.plan_id, environment.finalized_ts)
        if self._environments.get(environment.name) != version:
            self._forget(environment.snapshots)
            self._environments[environment.name] = version
        else:
            self._forget(
                [
                    s
                    for s in environment.snapshots
                    if (kept := self._kept.get(s.snapshot_id)) and kept.is_model and kept.model.auto_restatement_cron
                ]
            )
        return self.get(environment.snapshots)

    def plan(self, plan_id: str) -> EvaluatablePlan:
        """A stored plan, with the content of its seeds."""
        if plan_id not in self._plans:
            self._plans[plan_id] = EvaluatablePlan.model_validate(self._plan_json(plan_id))
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

    def _forget(self, ids: Iterable[SnapshotIdLike]) -> None:
        for s in ids:
            self._kept.pop(s.snapshot_id, None)


def _is_seed(snapshot: dict[str, t.Any]) -> bool:
    kind = snapshot.get("node", {}).get("kind", {})
    return isinstance(kind, dict) and kind.get("name") == "SEED"
