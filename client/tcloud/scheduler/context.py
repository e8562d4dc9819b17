"""SQLMesh's `Context`, with runs on the project's executors."""

import sys
import typing as t
from collections.abc import Callable, Collection
from contextlib import contextmanager

from sqlmesh.core.context import Context
from sqlmesh.core.notification_target import NotificationTargetManager
from sqlmesh.core.plan import Plan
from sqlmesh.core.snapshot import SnapshotEvaluator
from sqlmesh.utils import CompletionStatus
from sqlmesh.utils.date import TimeLike, to_timestamp
from sqlmesh.utils.errors import SQLMeshError

from tcloud.api.waiting import telling_of_executors
from tcloud.errors import ConflictError, InvalidError
from tcloud.scheduler.config import RemoteCloudSchedulerConfig
from tcloud.scheduler.following import SnapshotResolver, detachable, show_events
from tcloud.scheduler.runs import completion_of, log_nothing_to_do
from tcloud.scheduler.session import current_session, ignores_pauses
from tcloud.wire.executors import ExecutorKind
from tcloud.wire.runs import RunOptions

__all__ = ["RemoteContext"]

_ON_EXECUTORS_ONLY = "{what} has to run on an executor: this machine has no connection to the warehouse."

_NOT_UNDERSTOOD = "TM-REQUEST"


class RemoteContext(Context):
    """A `Context` whose `run` starts a run on the executors and follows it.

    Plans need no context of their own: they go through the scheduler of the project's configuration. With any other
    scheduler than the cloud's this is SQLMesh's `Context` and nothing else.
    """

    @property
    def is_remote(self) -> bool:
        """Whether the selected gateway has the cloud scheduler."""
        return isinstance(self._scheduler, RemoteCloudSchedulerConfig)

    _exit_code: int | None = None
    """What a run exits with if a plan changes its environment; None and 0 if it goes on then."""

    def run(self, environment: str | None = None, *, skip_janitor: bool = False, **kwargs: t.Any) -> CompletionStatus:
        """As SQLMesh's; the janitor is the server's business and never runs from here, and executors notify of runs."""
        self._exit_code = kwargs.get("exit_on_env_update")
        with self._leaving_notifications_to_executors():
            return super().run(environment, skip_janitor=skip_janitor or self.is_remote, **kwargs)

    def apply(self, plan: Plan, circuit_breaker: Callable[[], bool] | None = None) -> None:
        """As SQLMesh's; executors notify of plans."""
        with self._leaving_notifications_to_executors():
            super().apply(plan, circuit_breaker)

    def audit(self, *args: t.Any, **kwargs: t.Any) -> bool:
        self._needs_warehouse("An audit")
        return super().audit(*args, **kwargs)

    def run_janitor(self, *args: t.Any, **kwargs: t.Any) -> bool:
        self._needs_warehouse("The janitor")
        return super().run_janitor(*args, **kwargs)

    def destroy(self) -> bool:
        self._needs_warehouse("Destroying a project")
        return super().destroy()

    def invalidate_environment(self, name: str, sync: bool = False, must_exist: bool = False) -> None:
        if sync:
            self._needs_warehouse("Removing an environment (--sync)")
        super().invalidate_environment(name, sync, must_exist)

    def _run(
        self,
        environment: str,
        *,
        start: TimeLike | None,
        end: TimeLike | None,
        execution_time: TimeLike | None,
        ignore_cron: bool,
        select_models: Collection[str] | None,
        circuit_breaker: Callable[[], bool] | None,
        no_auto_upstream: bool,
        snapshot_evaluator: SnapshotEvaluator | None = None,
    ) -> CompletionStatus:
        if not self.is_remote:
            return super()._run(
                environment,
                start=start,
                end=end,
                execution_time=execution_time,
                ignore_cron=ignore_cron,
                select_models=select_models,
                circuit_breaker=circuit_breaker,
                no_auto_upstream=no_auto_upstream,
                snapshot_evaluator=snapshot_evaluator,
            )
        stored = self.state_sync.get_environment(environment)
        if stored is None:
            raise SQLMeshError(f"Environment '{environment}' was not found.")
        if select_models is not None:
            snapshots = self.state_sync.get_snapshots(stored.snapshots).values()
            select_models = self._select_models_for_run(select_models, no_auto_upstream, snapshots)
        options = RunOptions(
            environment=environment,
            start=_in_wire_form(start),
            end=_in_wire_form(end),
            execution_time=_in_wire_form(execution_time),
            ignore_cron=ignore_cron,
            select_models=None if select_models is None else sorted(select_models),
            exit_on_env_update=bool(self._exit_code),
            ignore_pause=ignores_pauses(),
        )
        api = current_session().api
        try:
            run = api.start_run(options)
        except ConflictError as error:
            raise SQLMeshError(str(error)) from error
        except InvalidError as error:
            if error.code != _NOT_UNDERSTOOD:
                raise
            # A time that means nothing: SQLMesh's command line has an exit code of its own for it.
            raise SQLMeshError(str(error)) from error
        resolver = SnapshotResolver(self.state_sync, expected={s.snapshot_id for s in stored.snapshots})
        with (
            detachable(self.console, f"Run '{run.run_id}'", "runs", run.run_id),
            telling_of_executors(api, ExecutorKind.RUN, self.console.log_status_update),
        ):
            ended = show_events(api.run_events(run.run_id), self.console, resolver)
        if ended.status == "preempted" and self._exit_code:
            # SQLMesh's own way out of an interrupted run asks for the completion status that such a run has not got.
            self.console.log_warning(ended.error_message or f"Environment '{environment}' modified while running.")
            sys.exit(self._exit_code)
        status = completion_of(run.run_id, ended)
        if ended.status == "skipped":
            self.console.log_status_update(ended.error_message or "Nothing was left to do.")
        elif status.is_nothing_to_do:
            log_nothing_to_do(self.console, self.state_sync.get_snapshots(stored.snapshots).values())
        return status

    def _try_connection(self, connection_name: str, validator: Callable[[], None]) -> None:
        if not self.is_remote or validator != self.engine_adapter.ping:
            super()._try_connection(connection_name, validator)
            return
        gateway = current_session().gateway(self.selected_gateway)
        self.console.log_status_update(
            f"{connection_name.capitalize()} connection: with the executors (gateway '{gateway.name}', {gateway.type})"
        )

    @contextmanager
    def _leaving_notifications_to_executors(self) -> t.Iterator[None]:
        own = self.notification_target_manager
        if self.is_remote:
            self.notification_target_manager = NotificationTargetManager()
        try:
            yield
        finally:
            self.notification_target_manager = own

    def _needs_warehouse(self, what: str) -> None:
        if self.is_remote:
            raise SQLMeshError(_ON_EXECUTORS_ONLY.format(what=what))


def _in_wire_form(time: TimeLike | None) -> str | int | None:
    # A relative expression means the moment at which the run starts, so it goes as it is.
    return time if time is None or isinstance(time, str | int) else to_timestamp(time)
