"""Which models of an environment a selection means, told from state alone: no project is needed."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from sqlglot.errors import SqlglotError
from sqlmesh.core.model import Model
from sqlmesh.core.selector import Git, NativeSelector, Selector, parse
from sqlmesh.core.snapshot import Snapshot
from sqlmesh.core.state_sync import StateReader
from sqlmesh.utils import UniqueKeyDict
from sqlmesh.utils.dag import DAG
from sqlmesh.utils.errors import SQLMeshError

from tcloud.errors import InvalidError, NotFoundError

__all__ = ["select_models"]


def select_models(
    state: StateReader,
    environment: str,
    selections: Sequence[str],
    *,
    default_catalog: str | None,
    no_auto_upstream: bool,
) -> list[str]:
    """Expands `--select-model` as `Context._select_models_for_run` does, with SQLMesh's own selectors.

    Args:
        state: The project's state.
        environment: Whose models are meant.
        selections: What was given: names, wildcards, `tag:`, `+model+`, and what combines them.
        default_catalog: The default catalog that the environment was planned with.
        no_auto_upstream: Whether models upstream of the selected ones are left out.

    Returns:
        Fully qualified names, sorted.

    Raises:
        InvalidError: If a selection cannot be read, needs a project, or no model matches it.
        NotFoundError: If there is no such environment.
    """
    stored = state.get_environment(environment)
    if stored is None:
        raise NotFoundError(f"Environment '{environment}' was not found.")
    snapshots = [s for s in state.get_snapshots(stored.snapshots).values() if s.is_model]
    dag = _dag(snapshots)
    selector = _selector(state, snapshots, dag, default_catalog)
    # One by one, to be able to say which of them means nothing; SQLMesh takes all of them together.
    selected = set().union(*(_expand(selector, selection, environment) for selection in selections))
    if not no_auto_upstream:
        selected = set(dag.subdag(*selected))
    return sorted(selected)


def _expand(selector: Selector, selection: str, environment: str) -> set[str]:
    try:
        needs_files = parse(selection).find(Git) is not None
        found = set() if needs_files else selector.expand_model_selections([selection])
    except (SqlglotError, SQLMeshError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InvalidError(f"--select-model '{selection}' cannot be read: {reason}") from error
    if needs_files:
        raise InvalidError(
            f"--select-model '{selection}' needs the project's files: use `tcloud sqlmesh run` in its folder."
        )
    if not found:
        raise InvalidError(
            f"--select-model '{selection}' matches no model of environment '{environment}'. "
            "Write a model's name as in `schema.model`; `*`, `tag:name`, `+model` and `model+` are understood."
        )
    return found


def _dag(snapshots: Collection[Snapshot]) -> DAG[str]:
    # A snapshot's parents are what its model depends on, as the planner saw it: nothing has to be rendered here,
    # where the packages that the project's macros import may be missing.
    dag: DAG[str] = DAG()
    for snapshot in snapshots:
        dag.add(snapshot.name, [parent.name for parent in snapshot.parents])
    return dag


def _selector(
    state: StateReader, snapshots: Collection[Snapshot], dag: DAG[str], default_catalog: str | None
) -> Selector:
    models: UniqueKeyDict[str, Model] = UniqueKeyDict("models", **{s.name: s.model for s in snapshots})
    return _InDialectsOfModels(state, models=models, context_path=Path(), dag=dag, default_catalog=default_catalog)


class _InDialectsOfModels(NativeSelector):
    """Reads names in the models' own dialects: the project's default dialect is not in state, but theirs are."""

    def _pattern_to_model_fqns(self, pattern: str, all_models: dict[str, Any]) -> set[str]:
        found = set()
        for dialect in sorted({model.dialect or "" for model in all_models.values()}):
            self._dialect = dialect
            found |= super()._pattern_to_model_fqns(pattern, all_models)
        return found
