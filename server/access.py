"""The one door: who calls, for which project, and whether the role is enough."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from server.bodies import admit
from server.database import Database
from server.errors import ApiError
from server.grants import KnownGrants
from server.identities import KnownTokens
from server.projects import Project, Role

__all__ = ["PUBLIC", "Access", "project_of", "require"]

PUBLIC = "public"
"""Marks a route that anyone may call."""

_PEOPLE = (Role.VIEWER, Role.DEVELOPER, Role.ADMIN)
_bearer = HTTPBearer(auto_error=False, description="A client's token.")


@dataclass(frozen=True)
class Access:
    """A caller that has been let in."""

    project: Project
    identity_id: str
    role: Role
    database: Database


def require(*roles: Role) -> Callable[..., Awaitable[Access]]:
    """A dependency that lets in callers with one of the roles, or with a person's role above one of them.

    Raises (when called):
        ApiError: 401 without a valid token, 403 with one whose role is not enough, 404 for an unknown project.
    """
    sufficient = _with_higher(roles)

    async def let_in(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Access:
        project = project_of(request)
        if credentials is None:
            raise ApiError(
                401,
                "TM-TOKEN",
                f"No token was sent for project '{project.namespace}': set TCLOUD_TOKEN, "
                "or TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET.",
            )
        tokens: KnownTokens = request.app.state.tokens
        granted: KnownGrants = request.app.state.grants
        identity = await tokens.identify(credentials.credentials)
        if identity is None:
            raise ApiError(
                401,
                "TM-TOKEN",
                f"The token is not valid for project '{project.namespace}': check TCLOUD_TOKEN, "
                "or TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET.",
            )
        roles_here = await granted.roles(project, identity.identity_id)
        if not roles_here:
            raise ApiError(
                403,
                "TM-ROLE",
                f"Client '{identity.identity_id}' has no business in project '{project.namespace}': ask an "
                "administrator for a role in it, or check the end of TCLOUD_URL.",
            )
        fitting = sorted(roles_here & sufficient, key=list(Role).index)
        if not fitting:
            needed, has = " or ".join(roles), " and ".join(sorted(roles_here))
            raise ApiError(
                403,
                "TM-ROLE",
                f"Client '{identity.identity_id}' has the role {has}; {request.url.path} takes {needed}.",
            )
        admit(request)
        return Access(project, identity.identity_id, fitting[-1], request.app.state.database)

    let_in.required_roles = roles  # type: ignore[attr-defined]
    return let_in


def project_of(request: Request) -> Project:
    """The project that a request's path names.

    Raises:
        ApiError: 404 if the server has none of that name.
    """
    project = Project(request.path_params["org"], request.path_params["project"])
    if project not in request.app.state.projects:
        raise ApiError(
            404,
            "TM-PROJECT",
            f"This server has no project '{project.org}/{project.name}': check the end of TCLOUD_URL.",
        )
    return project


def _with_higher(roles: tuple[Role, ...]) -> frozenset[Role]:
    lowest = [_PEOPLE.index(role) for role in roles if role in _PEOPLE]
    higher = _PEOPLE[min(lowest) :] if lowest else ()
    return frozenset({*roles, *higher})
