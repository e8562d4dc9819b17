"""The one door: who calls, for which project, and whether what they are granted is enough."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from server.audit_log import came_from
from server.bodies import admit
from server.database import Database, Transaction
from server.denials import DeniedError
from server.errors import ApiError
from server.granted_models import models_of, selector_of
from server.grants import KnownGrants
from server.identities import Identity, KnownTokens
from server.permissions import ANYWHERE, MACHINES, Globs, Permissions
from server.projects import Project, Role
from tcloud.wire.grants import Action

__all__ = ["Access", "Within", "declare_permissions", "open_to_all", "project_of", "require"]

_bearer = HTTPBearer(auto_error=False, description="A client's token.")
_ENVIRONMENT_PARAMS = ("environment", "name")
_PROJECT_PARAMS = ("org", "project")


class Within(StrEnum):
    """Where a caller needs an action to be let in."""

    PROJECT = "project"
    """In all environments, for all models."""
    ENVIRONMENT = "environment"
    """In the environment that the path names, for all of its models."""
    RECORD = "record"
    """Somewhere; the route then asks for the environments and models of what it deals with."""
    ANYWHERE = "anywhere"
    """Somewhere; what the route deals with is of no environment."""


@dataclass(frozen=True)
class Access:
    """A caller that has been let in."""

    project: Project
    identity_id: str
    machine: Role | None
    """The role of a process that let it in, `executor` or `worker`; None for others."""
    permissions: Permissions
    database: Database
    doing: str
    """What the caller is about to do, as the audit log calls it."""
    is_server_administrator: bool = False
    """Whether they administer the server's identities, which belong to all projects."""
    asked: frozenset[Role] | None = None
    """The roles that the caller's token was asked for, if it is good for less than its owner may do."""

    @property
    def visible(self) -> Globs:
        """The environments whose records the caller may see."""
        return ANYWHERE if self.machine is not None else self.permissions.environments(Action.VIEW)

    def see(self, environment: str | None) -> None:
        """Checks that the caller may see the records of an environment; None is of no environment.

        Raises:
            ApiError: 403 if not.
        """
        if environment is not None and not self.visible.match(environment):
            raise self.denied(Action.VIEW, environment)

    def everywhere(self, action: Action, *, why: str, subject: str | None = None) -> None:
        """Checks that an action is allowed in the whole project.

        Args:
            action: What is to be done.
            why: What it is that takes this.
            subject: To what it is to be done, if not to the project.

        Raises:
            ApiError: 403 if not.
        """
        if not self.permissions.everywhere(action):
            raise self._denied(
                f"{why} takes `{action}` in all environments, for all models",
                subject or self.project.namespace,
                {"action": action.value},
                f"--action {action}",
            )

    def somewhere(self, *actions: Action) -> None:
        """Checks that one of these actions is allowed in any environment, for any model.

        Raises:
            ApiError: 403 if not.
        """
        if not any(self.permissions.environments(action).patterns for action in actions):
            taken = " or ".join(f"`{action}`" for action in actions)
            details = {"action": actions[0].value}
            raise self._denied(f"it takes {taken}", self.project.namespace, details, f"--action {actions[0]}")

    def check(
        self,
        transaction: Transaction,
        action: Action,
        environment: str,
        models: Callable[[], Collection[str]] | None = None,
    ) -> None:
        """Checks that an action is allowed.

        Args:
            transaction: An open transaction.
            action: What is to be done.
            environment: Where.
            models: Says with which models, by fully qualified names; None for all of the environment.

        Raises:
            ApiError: 403 if not; it names each model for which it is not.
        """
        selections = self.permissions.selections(action, environment)
        if not selections:
            raise self.denied(action, environment)
        if not self.permissions.missing(action, environment, {""}, lambda _: ()):
            return
        selector = selector_of(transaction, models_of(transaction, environment))
        wanted = selector.names if models is None else models()
        if missing := self.permissions.missing(action, environment, wanted, selector.expand):
            raise self.denied(action, environment, missing)

    def denied(self, action: Action, environment: str, models: Collection[str] = ()) -> DeniedError:
        """What to raise where an action is not allowed in an environment, or not for some models."""
        shown = _shown(models)
        what = f"it takes `{action}` in environment '{environment}'" + (f" for {shown}" if shown else "")
        details = {"action": action.value, "environment": environment, "models": sorted(models)}
        return self._denied(what, environment, details, f"--action {action} --environment {environment}")

    def denied_plan(self, environment: str, changes: Mapping[str, Collection[str]]) -> DeniedError:
        """What to raise where a plan changes what its submitter may not plan.

        Args:
            environment: The plan's.
            changes: The models, by what is done to them, as in `adds`.
        """
        said = ", ".join(f"{kind} {_shown(models)}" for kind, models in changes.items())
        details = {"action": Action.PLAN.value, "environment": environment, **changes}
        grant = f"--action {Action.PLAN} --environment {environment} --model …"
        return self._denied(f"in environment '{environment}' the plan {said}", environment, details, grant)

    def not_theirs(self, why: str) -> DeniedError:
        """What to raise where something is another's, whatever is granted."""
        return self._denied(why, self.project.namespace, {}, None)

    def not_an_executor(self, why: str) -> DeniedError:
        """What to raise where only executors may do something."""
        return self._denied(why, self.project.namespace, {"roles": [Role.EXECUTOR.value]}, None)

    def _denied(self, what: str, subject: str, details: Mapping[str, object], grant: str | None) -> DeniedError:
        return DeniedError(
            f"'{self.identity_id}' may not do this ({self.doing}): {what}."
            + (f" {_ask_whom(self, grant)}" if grant is not None else ""),
            project=self.project,
            identity_id=self.identity_id,
            doing=self.doing,
            subject=subject,
            details=dict(details),
        )


def require(
    *needed: Action | Role, within: Within = Within.PROJECT, doing: str | None = None, says_what: bool = False
) -> Callable[..., Awaitable[Access]]:
    """A dependency that lets in callers who are granted one of these: an action, or the role of a process.

    Args:
        needed: Actions, and roles of processes.
        within: Where an action has to be granted.
        doing: What the audit log calls it; the route's method and path if not said.
        says_what: Whether the route also denies it to those who are granted it nowhere, with what exactly it takes.

    Raises (when called):
        ApiError: 401 without a valid token, 403 if nothing that is granted is enough, 404 for an unknown project.
    """
    roles = [role for role in needed if isinstance(role, Role)]
    actions = [action for action in needed if isinstance(action, Action)]
    if not MACHINES.issuperset(roles) or (len(actions) > 1 and within in (Within.PROJECT, Within.ENVIRONMENT)):
        raise ValueError(f"A route takes an action, or roles of processes, or both, and not {needed}.")

    async def let_in(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Access:
        project = project_of(request)
        identity = await _identify(request, project, credentials)
        granted: KnownGrants = request.app.state.grants
        permissions = await granted.of(project, identity.identity_id)
        asked = identity.asked(project)
        if asked is not None:
            permissions = permissions.narrowed(asked)
        came_from(request.client.host if request.client is not None else None)
        access = Access(
            project,
            identity.identity_id,
            next((role for role in roles if role in permissions.machine_roles), None),
            permissions,
            request.app.state.database,
            doing or f"{request.method} {getattr(request.scope.get('route'), 'path', request.url.path)}",
            identity.is_administrator,
            asked,
        )
        if access.machine is None:
            await _check_people(access, request, actions, within, roles, says_what=says_what)
        admit(request)
        return access

    let_in.permission = {  # type: ignore[attr-defined]
        "any_of": [*actions, *roles],
        **({"within": within.value} if actions else {}),
    }
    return let_in


async def open_to_all() -> None:
    """A dependency of routes that anyone may call."""


open_to_all.permission = {"any_of": ["public"]}  # type: ignore[attr-defined]


def declare_permissions(router: APIRouter) -> None:
    """Writes into the OpenAPI document, as `x-permission`, what each route of a router takes.

    Raises:
        RuntimeError: If one has no door: neither `require(...)` nor `open_to_all`.
    """
    for route in router.routes:
        if isinstance(route, APIRoute):
            permission = _permission_of(route.dependant)
            if permission is None:
                raise RuntimeError(f"{sorted(route.methods or ())} {route.path} says not who may call it.")
            route.openapi_extra = {**(route.openapi_extra or {}), "x-permission": permission}


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


async def _identify(request: Request, project: Project, credentials: HTTPAuthorizationCredentials | None) -> Identity:
    if credentials is None:
        raise ApiError(
            401,
            "TM-TOKEN",
            f"No token was sent for project '{project.namespace}': sign in with `tcloud auth login`, or set "
            "TCLOUD_TOKEN, or TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET.",
        )
    tokens: KnownTokens = request.app.state.tokens
    identity = await tokens.identify(credentials.credentials)
    if identity is None:
        raise ApiError(
            401,
            "TM-TOKEN",
            f"The token is not valid for project '{project.namespace}': sign in with `tcloud auth login`, or "
            "check TCLOUD_TOKEN, or TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET.",
        )
    return identity


async def _check_people(
    access: Access, request: Request, actions: list[Action], within: Within, roles: list[Role], *, says_what: bool
) -> None:
    namespace = access.project.namespace
    if access.permissions.are_none:
        raise access._denied(
            f"they have no business in project '{namespace}' (if another one is meant, check the end of TCLOUD_URL)",
            namespace,
            {},
            "viewer",
        )
    if not actions:
        raise access._denied(
            f"it takes the role {' or '.join(roles)}", namespace, {"roles": [role.value for role in roles]}, None
        )
    if within is Within.PROJECT:
        named = (value for name, value in request.path_params.items() if name not in _PROJECT_PARAMS)
        access.everywhere(actions[0], why="this", subject=next(named, None))
    elif within is Within.ENVIRONMENT:
        (action,) = actions
        environment = next(request.path_params[name] for name in _ENVIRONMENT_PARAMS if name in request.path_params)
        if action is Action.VIEW:
            access.see(environment)
        else:
            await run_in_threadpool(_check_environment, access, action, environment)
    elif not says_what:
        access.somewhere(*actions)


def _check_environment(access: Access, action: Action, environment: str) -> None:
    with access.database.transaction(access.project) as transaction:
        access.check(transaction, action, environment)


def _ask_whom(access: Access, grant: str) -> str:
    command = f"`tcloud grants add {access.identity_id} {grant}`"
    if access.asked is None:
        return f"Nothing grants them that; an administrator of the project can: {command}."
    limit = f"limited to {', '.join(sorted(access.asked))}" if access.asked else "not for this project"
    return (
        f"The token is {limit}: ask for another scope (TCLOUD_SCOPE). What its owner lacks an administrator of the "
        f"project can grant: {command}."
    )


def _shown(models: Collection[str]) -> str:
    # Without their quotes, as people write them.
    return ", ".join(sorted(model.replace('"', "") for model in models))


def _permission_of(dependant: Dependant) -> dict[str, Any] | None:
    found: dict[str, Any] | None = getattr(dependant.call, "permission", None)
    if found is not None:
        return found
    return next((inner for each in dependant.dependencies if (inner := _permission_of(each)) is not None), None)
