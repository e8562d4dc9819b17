"""Grants: what somebody may do in a project, and where."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Action", "Grant", "GrantRequest", "Permissions", "Role"]

Pattern = Annotated[str, Field(min_length=1, max_length=1000)]


class Action(StrEnum):
    """What a grant may allow. Whoever may do anything in an environment may also see it."""

    VIEW = "view"
    PLAN = "plan"
    RUN = "run"
    PAUSE = "pause"
    QUERY = "query"
    MANAGE = "manage"


class Role(StrEnum):
    """A name for a set of actions; the last two are for processes, and stand alone."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    DEVELOPER = "developer"
    ADMIN = "admin"
    EXECUTOR = "executor"
    WORKER = "worker"


class GrantRequest(BaseModel):
    """Asks for a grant: a role, or actions."""

    model_config = ConfigDict(extra="forbid")

    identity_id: str
    role: Role | None = None
    actions: list[Action] = []
    environments: list[Pattern] = Field(default=["*"], min_length=1, max_length=100)
    """Names of environments, in which `*` stands for any characters and `?` for one."""
    models: list[Pattern] = Field(default=["*"], min_length=1, max_length=100)
    """Selections of models as SQLMesh reads them: names, wildcards, `tag:`, `+`."""


class Grant(BaseModel):
    """A grant that is in force."""

    grant_id: str
    identity_id: str
    role: Role | None = None
    actions: list[Action] = []
    """What it allows, by its role or by name."""
    environments: list[str] = ["*"]
    models: list[str] = ["*"]
    created_by: str
    created_at: datetime


class Permissions(BaseModel):
    """What the caller may do in a project."""

    project: str
    identity_id: str
    grants: list[Grant]
