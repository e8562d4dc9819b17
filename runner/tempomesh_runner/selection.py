"""Which models of an environment a selection means, told from its snapshots alone: no project is needed."""

import typing as t
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlmesh.core.dialect import normalize_model_name
from sqlmesh.core.model import Model
from sqlmesh.core.selector import Git, NativeSelector, ResourceType, Tag, parse
from sqlmesh.core.state_sync import StateReader
from sqlmesh.utils import UniqueKeyDict
from sqlmesh.utils.dag import DAG
from sqlmesh.utils.errors import SQLMeshError

__all__ = ["ModelSelector", "NeedsProjectError", "Selectable", "SelectionError", "check_selection"]

_RESOURCE_TYPES = ("model", "audit")


class SelectionError(Exception):
    """A selection that cannot be read."""


class NeedsProjectError(SelectionError):
    """A selection that only somebody with the project's files can expand."""


class _Named(t.Protocol):
    @property
    def name(self) -> str: ...


class Selectable(t.Protocol):
    """As much of a snapshot as selectors look at."""

    @property
    def name(self) -> str:
        """The fully qualified name."""

    @property
    def is_model(self) -> bool:
        """Whether it can be selected; otherwise it is only passed on the way downstream."""

    @property
    def model(self) -> t.Any:
        """What has `name`, `fqn`, `tags` and `dialect`."""

    @property
    def parents(self) -> Sequence[_Named]:
        """What it reads."""


def check_selection(selection: str) -> None:
    """Checks that a selection can be read, without a project.

    Raises:
        SelectionError: If it cannot, or asks for what has changed in a project's files.
    """
    try:
        # In parentheses, as when it is expanded: what SQLMesh would not read to its end is an error there.
        parsed = parse(f"({selection})")
        for node in parsed.find_all(ResourceType):
            if node.name.lower() not in _RESOURCE_TYPES:
                raise SelectionError(f"resource type '{node.name}' is not one of {', '.join(_RESOURCE_TYPES)}")
        for pattern in parsed.find_all(exp.Var):
            if "*" not in pattern.name and not isinstance(pattern.parent, Tag | ResourceType):
                normalize_model_name(pattern.name, None, None)
    except (SqlglotError, SQLMeshError, ValueError) as error:
        raise SelectionError(" ".join(str(error).split())) from error
    if parsed.find(Git) is not None:
        raise NeedsProjectError("it needs the project's files")


class ModelSelector:
    """SQLMesh's selectors over the snapshots of an environment.

    Args:
        snapshots: All snapshots of the environment.
        state: The project's state.
        default_catalog: The default catalog that the environment was planned with.
    """

    def __init__(self, snapshots: Collection[Selectable], state: StateReader, default_catalog: str | None):
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


def _dag(snapshots: Iterable[Selectable]) -> DAG[str]:
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
