"""What a token is asked for: all that somebody may do, or a role in some projects at most."""

import re
from collections.abc import Iterable

from authlib.oauth2.rfc6749 import InvalidScopeError
from sqlalchemy import Connection, select

from server.identities import project_scope
from server.projects import Project, Role
from server.schema import grants

__all__ = ["ALL_PROJECTS", "held_scopes", "is_narrowed", "requested_scope"]

ALL_PROJECTS = "tbk:scope:projects"
_OF_SIGN_IN = frozenset({"openid", "profile", "email", "offline_access"})
_OF_PROJECT = re.compile(r"tbk:scope:project:[a-z0-9][a-z0-9_-]*:[a-z0-9][a-z0-9_-]*:(?:" + "|".join(Role) + r")\Z")


def requested_scope(scope: str | None) -> str:
    """A request's scope as it is granted; without one of projects it is good for all of them.

    Raises:
        InvalidScopeError: If a part of it means nothing here.
    """
    parts = list(dict.fromkeys((scope or "").split()))
    if not all(part == ALL_PROJECTS or part in _OF_SIGN_IN or _OF_PROJECT.match(part) for part in parts):
        raise InvalidScopeError()
    return " ".join(parts if any(part not in _OF_SIGN_IN for part in parts) else [ALL_PROJECTS, *parts])


def is_narrowed(scope: str) -> bool:
    """Whether a granted scope is less than everything."""
    return ALL_PROJECTS not in scope.split()


def held_scopes(connection: Connection, identity_id: str) -> Iterable[str]:
    """The roles of an identity, as scopes."""
    rows = connection.execute(
        select(grants.c.project, grants.c.role)
        .where(grants.c.identity_id == identity_id, grants.c.role.is_not(None))
        .order_by(grants.c.project, grants.c.role)
    )
    return [project_scope(Project.parse(row.project), Role(row.role)) for row in rows]
