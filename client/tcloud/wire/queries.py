"""Questions to a warehouse, and the janitor's work: what an executor does for somebody at a terminal."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tcloud.wire.statuses import Status

__all__ = ["Query", "QueryKind", "QueryPython", "QueryRequest"]


class QueryKind(StrEnum):
    """What is asked for; `tempomesh_runner.queries` has what each takes and answers."""

    FETCH = "fetch"
    COLUMNS = "columns"
    TABLE_EXISTS = "table_exists"
    EVALUATE = "evaluate"
    AUDIT = "audit"
    SCHEMA_DIFF = "schema_diff"
    ROW_DIFF = "row_diff"
    JANITOR = "janitor"
    CLEANUP = "cleanup"
    """Removes one environment that has expired."""
    DESTROY = "destroy"
    TEST_CONNECTION = "test_connection"
    """Tests a connection of the vault, or one that is to get there."""

    @property
    def is_housekeeping(self) -> bool:
        """Whether it removes things, which nothing may do while a plan is being applied."""
        return self in (QueryKind.JANITOR, QueryKind.CLEANUP, QueryKind.DESTROY)

    @property
    def runs_code(self) -> bool:
        """Whether code is executed for it that its sender has, of models, macros and audits."""
        return self in (QueryKind.EVALUATE, QueryKind.AUDIT)


class QueryPython(BaseModel):
    """What the sender's code needs that is executed to answer a question: what a plan made there would ask for."""

    requirements: dict[str, str] = {}
    """Packages with their versions, as `Environment.requirements` of SQLMesh."""
    python_version: str | None = None
    """Major and minor; None leaves it to the executors."""


class QueryRequest(BaseModel):
    """A question, as its sender puts it."""

    model_config = ConfigDict(extra="forbid")

    query_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    """Made by the sender: the same question sent again is one question."""
    kind: QueryKind
    gateway: str
    arguments: dict[str, Any]
    python: QueryPython = QueryPython()


class Query(BaseModel):
    """A question as the server records it; what was asked and answered is kept apart, and not for long."""

    query_id: str
    kind: QueryKind
    status: Status
    created_by: str
    created_at: datetime
    start_at: datetime | None = None
    end_at: datetime | None = None
    error_message: str | None = None
