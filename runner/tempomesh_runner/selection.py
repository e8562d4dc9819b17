"""Which models of an environment a selection means, told from its snapshots alone: no project is needed."""

import typing as t
from collections.abc import Collection, Iterable
from pathlib import Path

from sqlglot.errors import SqlglotError
from sqlmesh.core.model import Model
from sqlmesh.core.selector import Git, NativeSelector, parse
from sqlmesh.core.snapshot import Snapshot
from sqlmesh.core.state_sync import StateReader
from sqlmesh.utils import UniqueKeyDict
from sqlmesh.utils.dag import DAG
from sqlmesh.utils.errors import SQLMeshError

__all__ = ["ModelSelector", "NeedsProjectError", "SelectionError"]


class SelectionError(Exception):
    """A selection that cannot be read."""


class NeedsProjectError(SelectionError):
    """A selection that only somebody with the project's files can expand."""


class ModelSelector:
    """SQLMesh's selectors over the snapshots of an environment.

    Args:
        snapshots: All snapshots of the environment.
        state: The project's state.
        default_catalog: The default catalog that the environment was planned with.
    """

    def __init__(self, snapshots: Collection[Snapshot], state: StateReader, default_catalog: str | None):
        models = [snapshot for snapshot in snapshots if snapshot.is_model]
        self._everything = _dag(snapshots)
        self._dag = _dag(models)
        self._names = frozenset(model.name for model in models)
        self._selector = _InDialectsOfModels(
            state,
            models=UniqueKeyDict[str, Model]("models", **{s.name: s.model for s in models}),
            context_path=Path(),
            dag=self._dag,
            default_catalog=default_catalog,
        )

    def expand(self, selection: str) -> set[str]:
        """The fully qualified names of the models that a selection means: names, wildcards, `tag:`, `+model+`.

        Raises:
            NeedsProjectError: If it asks for what has changed in the project's files.
            SelectionError: If it cannot be read.
        """
        if selection in self._names:
            return {selection}
        try:
            needs_files = parse(selection).find(Git) is not None
            found = set() if needs_files else self._selector.expand_model_selections([selection])
        except (SqlglotError, SQLMeshError, ValueError) as error:
            raise SelectionError(" ".join(str(error).split())) from error
        if needs_files:
            raise NeedsProjectError("it needs the project's files")
        return found

    def with_upstream(self, names: Iterable[str]) -> set[str]:
        """Models and what is upstream of them."""
        return set(self._dag.subdag(*names))

    def with_downstream(self, names: Collection[str]) -> dict[str, str]:
        """Models and all that is downstream of them, each with the one of them that it is downstream of."""
        culprits = {name: name for name in sorted(names)}
        for name in self._everything.sorted:
            lost = next((parent for parent in sorted(self._everything.graph.get(name, ())) if parent in culprits), None)
            if lost is not None and name not in culprits:
                culprits[name] = culprits[lost]
        return culprits


def _dag(snapshots: Iterable[Snapshot]) -> DAG[str]:
    # A snapshot's parents are what its model depends on, as the planner saw it: nothing has to be rendered here,
    # where the packages that the project's macros import may be missing.
    dag: DAG[str] = DAG()
    for snapshot in snapshots:
        dag.add(snapshot.name, [parent.name for parent in snapshot.parents])
    return dag


class _InDialectsOfModels(NativeSelector):
    """Reads names in the models' own dialects: the project's default dialect is not in state, but theirs are."""

    def _pattern_to_model_fqns(self, pattern: str, all_models: dict[str, t.Any]) -> set[str]:
        found = set()
        for dialect in sorted({model.dialect or "" for model in all_models.values()}):
            self._dialect = dialect
            found |= super()._pattern_to_model_fqns(pattern, all_models)
        return found
