"""Which models a grant's selections mean, told from what SQLMesh's state has stored of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from server.database import Transaction
from server.environments import find_summary, planned_with
from server.state_reads import stored_snapshots
from tempomesh_runner.selection import ModelSelector, SelectionError

__all__ = ["GrantSelector", "SelectableNode", "EnvironmentModels", "models_of", "selector_of"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Parent:
    name: str


@dataclass(frozen=True)
class _Node:
    """A model or standalone audit as selectors look at it."""

    name: str
    fqn: str
    tags: list[str]
    dialect: str
    is_model: bool


@dataclass(frozen=True)
class SelectableNode:
    """A stored snapshot, unparsed: of thousands of them no models are made."""

    name: str
    """The fully qualified name."""
    model: _Node
    parents: list[_Parent] = field(default_factory=list)
    is_model: bool = True
    """Also of standalone audits: grants name them as they name models."""

    @classmethod
    def of(cls, name: str, stored: Mapping[str, Any]) -> "SelectableNode":
        """From the JSON that SQLMesh makes of a snapshot.

        Raises:
            KeyError, TypeError, AttributeError: If it is none.
        """
        node = stored["node"]
        found = _Node(
            name=node["name"],
            fqn=name,
            tags=list(node.get("tags") or []),
            dialect=node.get("dialect") or "",
            is_model=node.get("source_type") != "audit",
        )
        return cls(name, found, [_Parent(parent["name"]) for parent in stored.get("parents") or []])


class GrantSelector:
    """Expands selections over some models; one that cannot be read means none of them.

    Args:
        selector: SQLMesh's.
        names: All of the models.
    """

    def __init__(self, selector: ModelSelector, names: Iterable[str]):
        self._selector = selector
        self.names = frozenset(names)

    def expand(self, selection: str) -> set[str]:
        """The fully qualified names of the models that a selection means."""
        try:
            return self._selector.expand(selection)
        except SelectionError as error:
            _log.warning("grant_not_expanded", selection=selection, reason=str(error))
            return set()


@dataclass(frozen=True)
class EnvironmentModels:
    """The models of an environment, and the catalog in which their names are short."""

    nodes: dict[str, SelectableNode]
    default_catalog: str | None


def models_of(transaction: Transaction, environment: str) -> EnvironmentModels:
    """The models and standalone audits of an environment; none if there is no such environment."""
    stored = transaction.state.get_environment(environment)
    summary = find_summary(transaction, environment)
    if stored is None or summary is None:
        return EnvironmentModels({}, None)
    nodes = {name: SelectableNode.of(name, found) for name, found in stored_snapshots(transaction, stored.snapshots)}
    return EnvironmentModels(nodes, planned_with(transaction, summary).get("default_catalog"))


def selector_of(transaction: Transaction, models: EnvironmentModels) -> GrantSelector:
    """What expands selections over the models of an environment."""
    nodes = list(models.nodes.values())
    return GrantSelector(ModelSelector(nodes, transaction.state, models.default_catalog), models.nodes)
