"""What the tasks of one runner process share: state, snapshots, gateways, a console that relays."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from sqlmesh.core.config.loader import load_config_from_env
from sqlmesh.core.scheduler import Scheduler
from sqlmesh.core.snapshot import Snapshot, SnapshotEvaluator
from sqlmesh.utils import CorrelationId
from sqlmesh.utils.errors import SQLMeshError

from tempomesh_runner.configuration import config_from_environment
from tempomesh_runner.console import Event, RelayConsole
from tempomesh_runner.gateways import Gateways
from tempomesh_runner.hiding import Hiding, secret_values
from tempomesh_runner.notifications import Notifications
from tempomesh_runner.snapshots import SnapshotStore
from tempomesh_runner.state import RemoteStateSync, Transport

__all__ = ["EnvironmentUpdatingError", "ProcessContext"]


class EnvironmentUpdatingError(SQLMeshError):
    """A plan is changing the environment at this moment; to be tried again."""


class ProcessContext:
    """Built once in a process.

    Args:
        transport: Carries state calls.
        emit: Takes console events.
    """

    def __init__(self, transport: Transport, emit: Callable[[Event], None]):
        self.state = RemoteStateSync(transport)
        self.store = SnapshotStore(self.state, transport)
        self.console = RelayConsole(lambda event: emit(self.hide(event)))
        self.managed: Mapping[str, dict[str, Any]] = {}
        """Connections of the project's vault, by gateway; given once, before the first task."""

    @cached_property
    def gateways(self) -> Gateways:
        """The warehouses."""
        return Gateways.of_process(self.managed)

    @cached_property
    def hide(self) -> Hiding:
        """Keeps the secrets of the connections out of what is told."""
        own = load_config_from_env().get("gateways", {})
        return Hiding(secret_values([*own.values(), *self.managed.values()]))

    @cached_property
    def notifications(self) -> Notifications:
        """Who is notified of audits and runs."""
        return Notifications(config_from_environment(), self.console.log_warning)

    def for_run(self, run_id: str, gateway: str | None) -> SnapshotEvaluator:
        """An evaluator whose queries carry a run's id."""
        return self.gateways.evaluator(self.gateways.selected(gateway), CorrelationId.from_run_id(run_id))

    def for_plan(self, plan_id: str, gateway: str | None) -> SnapshotEvaluator:
        """An evaluator whose queries carry a plan's id."""
        return self.gateways.evaluator(self.gateways.selected(gateway), CorrelationId.from_plan_id(plan_id))

    def scheduler(
        self, snapshots: Iterable[Snapshot], evaluator: SnapshotEvaluator, default_catalog: str | None
    ) -> Scheduler:
        """SQLMesh's scheduler over some snapshots, as `Context.create_scheduler` builds it."""
        return Scheduler(
            snapshots,
            evaluator,
            self.state,
            default_catalog,
            max_workers=evaluator.ddl_concurrent_tasks,
            console=self.console,
            notification_target_manager=self.notifications,
        )
