"""SQLMesh's `Context`, with runs and whatever else needs the warehouse on the project's executors."""

import sys
import typing as t
from collections.abc import Callable, Collection
from contextlib import contextmanager
from pathlib import Path

from sqlglot import exp
from sqlmesh.core.context import Context
from sqlmesh.core.context_diff import _build_requirements
from sqlmesh.core.engine_adapter.base import EngineAdapter
from sqlmesh.core.model import Model
from sqlmesh.core.notification_target import NotificationTargetManager
from sqlmesh.core.plan import Plan
from sqlmesh.core.snapshot import SnapshotEvaluator
from sqlmesh.core.table_diff import TableDiff
from sqlmesh.utils import CompletionStatus
from sqlmesh.utils.date import TimeLike
from sqlmesh.utils.errors import SQLMeshError

from tcloud.api.waiting import telling_of_executors
from tcloud.errors import ConflictError, InvalidError
from tcloud.scheduler.config import RemoteCloudSchedulerConfig
from tcloud.scheduler.following import SnapshotResolver, detachable, show_events
from tcloud.scheduler.queries import Answer, ask_of
from tcloud.scheduler.runs import completion_of, log_nothing_to_do
from tcloud.scheduler.session import current_session, ignores_pauses
from tcloud.scheduler.warehouse import RemoteSnapshotEvaluator, RemoteTableDiff, in_wire_form
from tcloud.wire.executors import ExecutorKind
from tcloud.wire.queries import QueryKind, QueryPython
from tcloud.wire.runs import RunOptions

__all__ = ["RemoteContext"]

_AT_ONCE = 8
"""Questions that executors are asked at a time; how many they work at is their own business."""

_NO_ROLLBACK = (
    "The state of a Tempomesh project is migrated by its server. To undo a migration, restore the server's database "
    "from its backup and start the server with the SQLMesh that it had."
)

_NOT_UNDERSTOOD = "TM-REQUEST"


class RemoteContext(Context):
    """A `Context` whose `run` starts a run on the executors and follows it, and whose queries executors answer.

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

    @property
    def snapshot_evaluator(self) -> SnapshotEvaluator:
        """As SQLMesh's; what it is asked for is evaluated and audited by executors."""
        if not self.is_remote:
            return super().snapshot_evaluator
        if self._snapshot_evaluator is None:
            self._snapshot_evaluator = RemoteSnapshotEvaluator(
                self.engine_adapters, self.selected_gateway, self.state_reader, self._ask
            )
        return self._snapshot_evaluator

    def audit(
        self,
        start: TimeLike,
        end: TimeLike,
        *,
        models: t.Iterable[str] | None = None,
        execution_time: TimeLike | None = None,
    ) -> bool:
        """As SQLMesh's; all models are audited with one question."""
        names = list(models) if models else None
        if isinstance(self.snapshot_evaluator, RemoteSnapshotEvaluator):
            snapshots = self.snapshots
            audited = (
                [self.get_snapshot(name, raise_if_missing=True) for name in names] if names else snapshots.values()
            )
            self.snapshot_evaluator.prepare_audits(
                list(audited), snapshots, start=start, end=end, execution_time=execution_time
            )
        return super().audit(start, end, models=iter(names) if names else None, execution_time=execution_time)

    def table_diff(self, *args: t.Any, **kwargs: t.Any) -> list[TableDiff]:
        """As SQLMesh's; executors compare, several models at a time."""
        with self._several_at_once():
            return super().table_diff(*args, **kwargs)

    def create_external_models(self, strict: bool = False) -> None:
        """As SQLMesh's; executors look at the tables, several at a time."""
        with self._several_at_once():
            super().create_external_models(strict=strict)

    def migrate(self) -> None:
        """The server migrates the state when it starts; here it is only told which versions it has.

        Raises:
            SQLMeshError: If state and this machine's SQLMesh are of different versions; it says which to change.
        """
        if not self.is_remote:
            super().migrate()
            return
        versions = self._new_state_sync().get_versions()
        self.console.log_status_update("The server migrates the state when it starts: nothing is left to migrate.")
        self._print_state_versions(versions)

    def rollback(self) -> None:
        if self.is_remote:
            raise SQLMeshError(_NO_ROLLBACK)
        super().rollback()

    def import_state(self, input_file: Path, clear: bool = False, confirm: bool = True) -> None:
        """As SQLMesh's, by the server: all of it or nothing, and never beside a plan."""
        if not self.is_remote:
            super().import_state(input_file, clear=clear, confirm=confirm)
            return
        if not self.console.start_state_import(
            input_file=input_file,
            gateway=self.selected_gateway,
            state_connection_config=self._state_connection_config,
            clear=clear,
            confirm=confirm,
        ):
            return
        success = False
        try:
            current_session().api.import_state(input_file.read_bytes(), replace=clear)
            success = True
        except (ConflictError, InvalidError) as error:
            raise SQLMeshError(str(error)) from error
        finally:
            self.console.stop_state_import(success=success, input_file=input_file)

    def _run_janitor(
        self, ignore_ttl: bool = False, force_delete: bool = False, environment: str | None = None
    ) -> None:
        if not self.is_remote:
            super()._run_janitor(ignore_ttl, force_delete=force_delete, environment=environment)
            return
        arguments = {"ignore_ttl": ignore_ttl, "force_delete": force_delete, "environment": environment}
        self._ask(QueryKind.JANITOR, {**arguments, "config": self._janitor_config})

    def _cleanup_environments(
        self, current_ts: int | None = None, force_delete: bool = False, name: str | None = None
    ) -> list[str]:
        if not self.is_remote:
            return super()._cleanup_environments(current_ts, force_delete=force_delete, name=name)
        failures: list[str] = self._ask(QueryKind.CLEANUP, {"environment": name})["failures"]
        return failures

    def _destroy(self) -> bool:
        if not self.is_remote:
            return super()._destroy()
        self._ask(QueryKind.DESTROY, {"config": self._janitor_config})
        self.clear_caches()
        return True

    def _ask(self, kind: QueryKind, arguments: dict[str, t.Any]) -> Answer:
        return ask_of(self.selected_gateway, self._python_for)(kind, arguments)

    def _python_for(self, kind: QueryKind) -> QueryPython:
        """What a plan made now would ask for; so what has been planned already is built already."""
        if not kind.runs_code:
            return QueryPython()
        scheduler = t.cast(RemoteCloudSchedulerConfig, self._scheduler)
        requirements = _build_requirements(
            self._requirements,
            self._excluded_requirements,
            self.snapshots.values(),
            infer_python_dependencies=self.config.infer_python_dependencies,
        )
        return QueryPython(requirements=requirements, python_version=scheduler.python_version)

    @property
    def _janitor_config(self) -> dict[str, t.Any]:
        config = self.config.janitor
        return {
            "expired_snapshots_batch_size": config.expired_snapshots_batch_size,
            "warn_on_delete_failure": config.warn_on_delete_failure,
        }

    def _table_diff(
        self,
        source: str,
        target: str,
        source_alias: str,
        target_alias: str,
        limit: int,
        decimals: int,
        adapter: EngineAdapter,
        on: list[str] | exp.Expr | None = None,
        model: Model | None = None,
        skip_columns: list[str] | None = None,
        where: str | exp.Expr | None = None,
        schema_diff_ignore_case: bool = False,
    ) -> TableDiff:
        of: dict[str, t.Any] = {
            "source": source,
            "target": target,
            "source_alias": source_alias,
            "target_alias": target_alias,
            "limit": limit,
            "decimals": decimals,
            "on": on,
            "skip_columns": skip_columns,
            "where": where,
            "schema_diff_ignore_case": schema_diff_ignore_case,
        }
        if not self.is_remote or not on:
            return super()._table_diff(adapter=adapter, model=model, **of)
        named = {"model_name": model.name, "model_dialect": model.dialect} if model else {}
        gateway = (model and model.gateway) or self.selected_gateway
        return RemoteTableDiff(ask_of(gateway), adapter, **of, **named)

    @contextmanager
    def _several_at_once(self) -> t.Iterator[None]:
        was = self._concurrent_tasks
        if self.is_remote:
            self._concurrent_tasks = _AT_ONCE
        try:
            yield
        finally:
            self._concurrent_tasks = was

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
            start=in_wire_form(start),
            end=in_wire_form(end),
            execution_time=in_wire_form(execution_time),
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
