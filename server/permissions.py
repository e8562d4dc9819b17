"""What grants allow: pure, from the grants alone. Nothing is allowed that no grant allows."""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import ColumnElement, or_, true

from tcloud.wire.grants import Action, Role

__all__ = ["ANYWHERE", "EVERYTHING", "MACHINES", "Globs", "HeldGrant", "Permissions", "actions_of"]

EVERYTHING = "*"
"""As a glob every environment, as a selection every model."""

MACHINES = frozenset({Role.EXECUTOR, Role.WORKER})
"""Roles of processes; what they may do is said by the routes that are for them."""

_GLOB = re.compile(r"[a-z0-9_*?]+\Z")
_ACTIONS = {
    Role.VIEWER: frozenset({Action.VIEW}),
    Role.OPERATOR: frozenset({Action.VIEW, Action.RUN, Action.PAUSE}),
    Role.DEVELOPER: frozenset({Action.VIEW, Action.PLAN, Action.RUN, Action.PAUSE, Action.QUERY}),
    Role.ADMIN: frozenset(Action),
    Role.EXECUTOR: frozenset(),
    Role.WORKER: frozenset(),
}


def actions_of(role: Role) -> frozenset[Action]:
    """The actions that a role is a name for."""
    return _ACTIONS[role]


@dataclass(frozen=True)
class Globs:
    """Environments: those whose names match any of the patterns."""

    patterns: frozenset[str]

    @staticmethod
    def is_valid(pattern: str) -> bool:
        """Whether it is a pattern of environments' names, as SQLMesh normalizes them."""
        return _GLOB.match(pattern) is not None

    @property
    def are_all(self) -> bool:
        """Whether every environment matches, of whatever name."""
        return EVERYTHING in self.patterns

    def match(self, environment: str) -> bool:
        """Whether an environment's name matches."""
        return any(fnmatchcase(environment, pattern) for pattern in self.patterns)

    def clause(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """The same of a column, in SQL."""
        if self.are_all:
            return true()
        return or_(*(column.like(_as_like(pattern), escape="\\") for pattern in sorted(self.patterns)))


ANYWHERE = Globs(frozenset({EVERYTHING}))
"""All environments."""


@dataclass(frozen=True)
class HeldGrant:
    """A grant that an identity has in a project."""

    actions: frozenset[Action]
    environments: Globs
    models: frozenset[str]
    """Selections of models."""

    def allows(self, action: Action) -> bool:
        """Whether it allows an action at all; whoever may do anything in an environment may also see it."""
        return action in self.actions or (action is Action.VIEW and bool(self.actions))


@dataclass(frozen=True)
class Permissions:
    """All grants of an identity in a project, together."""

    grants: tuple[HeldGrant, ...] = ()
    machine_roles: frozenset[Role] = frozenset()

    def narrowed(self, roles: Collection[Role]) -> "Permissions":
        """What is left of them for a token that was asked for these roles only."""
        allowed = frozenset[Action]().union(*(actions_of(role) for role in roles))
        kept = (replace(grant, actions=grant.actions & allowed) for grant in self.grants)
        return Permissions(tuple(grant for grant in kept if grant.actions), self.machine_roles & frozenset(roles))

    @property
    def are_none(self) -> bool:
        """Whether the identity has no business in the project."""
        return not self.grants and not self.machine_roles

    def environments(self, action: Action) -> Globs:
        """Where an action is allowed, for whichever models."""
        return Globs(frozenset().union(*(grant.environments.patterns for grant in self._of(action))))

    def everywhere(self, action: Action) -> bool:
        """Whether an action is allowed in the whole project: all environments and all models, by one grant."""
        return any(
            grant.environments.are_all and (EVERYTHING in grant.models or action is Action.VIEW)
            for grant in self._of(action)
        )

    def selections(self, action: Action, environment: str) -> frozenset[str]:
        """For which models an action is allowed in an environment; viewing is not limited by models."""
        found = [grant for grant in self._of(action) if grant.environments.match(environment)]
        if found and action is Action.VIEW:
            return frozenset({EVERYTHING})
        return frozenset().union(*(grant.models for grant in found))

    def missing(
        self, action: Action, environment: str, models: Collection[str], expand: Callable[[str], Collection[str]]
    ) -> list[str]:
        """The models for which an action is not allowed in an environment.

        Args:
            action: What is to be done.
            environment: Where.
            models: With which models.
            expand: Says which models a selection means there; asked only if that matters.
        """
        selections = self.selections(action, environment)
        if EVERYTHING in selections:
            return []
        covered: set[str] = set()
        for selection in sorted(selections):
            covered.update(expand(selection))
        return sorted(set(models) - covered)

    def _of(self, action: Action) -> Iterable[HeldGrant]:
        return (grant for grant in self.grants if grant.allows(action))


def _as_like(pattern: str) -> str:
    return pattern.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%").replace("*", "%").replace("?", "_")
