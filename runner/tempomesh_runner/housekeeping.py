"""The janitor and the end of a project: SQLMesh's own methods of a `Context`, where the warehouse is."""

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from sqlmesh.core.console import Console
from sqlmesh.core.context import GenericContext
from sqlmesh.core.model.kind import CustomKind
from sqlmesh.core.snapshot import SnapshotEvaluator, evaluator
from sqlmesh.core.snapshot.evaluator import CustomMaterialization
from sqlmesh.utils.date import now_timestamp
from sqlmesh.utils.errors import SQLMeshError

from tempomesh_runner.process_context import ProcessContext

__all__ = ["Housekeeper", "any_materialization"]


class Housekeeper:
    """Removes from state and warehouse what has expired.

    It has of a `Context` what `_run_janitor` and its helpers look at, and borrows those.

    Args:
        context: The process's.
        gateway: The selected gateway.
        evaluator: Its evaluator.
        expired_snapshots_batch_size: As in a project's `janitor` configuration.
        warn_on_delete_failure: As there.
    """

    _run_janitor: t.Any = GenericContext._run_janitor
    _cleanup_environments: t.Any = GenericContext._cleanup_environments
    _cleanup_adapters_for_environment: t.Any = GenericContext._cleanup_adapters_for_environment

    def __init__(
        self,
        context: ProcessContext,
        gateway: str,
        evaluator: SnapshotEvaluator,
        *,
        expired_snapshots_batch_size: int | None = None,
        warn_on_delete_failure: bool = False,
    ):
        self.state_sync = self.state_reader = context.state
        self.console = context.console
        self.snapshot_evaluator = evaluator
        self.selected_gateway = gateway
        self.engine_adapters = dict(evaluator.adapters)
        self.engine_adapter = self.engine_adapters[gateway]
        self.config = SimpleNamespace(
            janitor=SimpleNamespace(
                expired_snapshots_batch_size=expired_snapshots_batch_size,
                warn_on_delete_failure=warn_on_delete_failure,
            )
        )

    def run_janitor(self, *, ignore_ttl: bool, force_delete: bool, environment: str | None) -> None:
        """As `Context.run_janitor`, less its questions.

        Raises:
            SQLMeshError: If something could not be dropped, unless the configuration asks for a warning.
        """
        with any_materialization(self.console):
            self._run_janitor(ignore_ttl, force_delete=force_delete, environment=environment)

    def clean_up_environment(self, name: str) -> list[str]:
        """Removes an expired environment; returns what went wrong."""
        failures: list[str] = self._cleanup_environments(current_ts=now_timestamp(), name=name)
        return failures

    def destroy(self) -> None:
        """As `Context._destroy`: all environments, all tables, and then the state."""
        for environment in self.state_sync.get_environments():
            self.state_sync.invalidate_environment(name=environment.name, protect_prod=False)
            self.console.log_success(f"Environment '{environment.name}' invalidated.")
        with any_materialization(self.console):
            self._run_janitor(ignore_ttl=True)
        self.state_sync.remove_state(including_backup=True)
        self.console.log_status_update("State tables removed.")


@contextmanager
def any_materialization(console: Console) -> Iterator[None]:
    """While it is open, a materialization that is not found here stands for one that drops tables as SQLMesh does.

    What expires may have been made by a package that only its own environment asked for, and that is gone.
    """
    find = evaluator.get_custom_materialization_type_or_raise
    told: set[str] = set()

    def found(name: str) -> tuple[type[CustomKind], type[CustomMaterialization[t.Any]]]:
        try:
            return find(name)
        except SQLMeshError:
            if name not in told:
                told.add(name)
                console.log_warning(f"The materialization '{name}' is not here: what it made is dropped as tables are.")
            return CustomKind, CustomMaterialization

    evaluator.get_custom_materialization_type_or_raise = found
    try:
        yield
    finally:
        evaluator.get_custom_materialization_type_or_raise = find
