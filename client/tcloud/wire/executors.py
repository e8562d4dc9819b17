"""Executors, the gateways they serve, and what a client or executor learns when it connects."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from tcloud.wire.pythons import BuiltPython

__all__ = [
    "Bootstrap",
    "ControlWorker",
    "Executor",
    "ExecutorHeartbeat",
    "ExecutorKind",
    "Gateway",
    "HeartbeatAnswer",
    "TemporalAddress",
]


class ExecutorKind(StrEnum):
    """Which task queue an executor serves."""

    RUN = "run"
    APPLY = "apply"


class Gateway(BaseModel):
    """What a planner has to know of a gateway, so that it needs no connection to it."""

    name: str
    type: str
    """SQLMesh's connection type, such as `postgres`."""
    dialect: str
    default_catalog: str | None = None
    concurrent_tasks: int = Field(default=1, ge=1, le=10_000)
    is_default: bool = False
    revision: str | None = None
    """Of the connection, if it is the vault's; none if the executor brings its own."""


class ExecutorHeartbeat(BaseModel):
    """Sent by an executor at start and every few seconds."""

    identity: str
    kind: ExecutorKind
    host: str
    version: str
    sqlmesh_version: str
    status: str = "ready"
    gateways: list[Gateway] = []
    python_environments: list[str] = []
    """Keys of the Python environments that its processes run in; `executor` is its own interpreter."""
    pythons: list[BuiltPython] = []
    """The Python environments that are built where it is."""
    package_index_error: str | None = None
    """Why it reaches no package index, if it does not: what is not built yet cannot be built there."""


class HeartbeatAnswer(BaseModel):
    """What an executor is told when it reports."""

    scheduled: dict[str, str] = {}
    """The environments that are scheduled and not being changed, each with the id of the plan that it is of: told to
    run executors, which read them before their next tick."""
    connections: str | None = None
    """A name for what is in the vault: what has another one is to be read again. None from a server without a vault."""
    python_environments: list[str] = []
    """Keys of the Python environments of environments that are scheduled: every executor has them built."""
    sqlmesh_version: str | None = None
    """The server's: an executor that has another one takes no more work."""


class Executor(ExecutorHeartbeat):
    """An executor as `tcloud executors list` shows it."""

    last_seen_at: datetime


class ControlWorker(BaseModel):
    """A control worker, which schedules plans and runs, as Temporal sees it."""

    identity: str
    last_seen_at: datetime


class TemporalAddress(BaseModel):
    """How to reach the project's Temporal namespace."""

    address: str
    namespace: str
    tls: bool = False
    token: str | None = Field(default=None, repr=False)
    """What to show to it; None where it asks for nothing, or for what only the process's own settings say."""
    token_seconds: float | None = None
    """How long the token is good."""
    is_edge: bool = False
    """Whether this is the edge in front of Temporal, for executors in other networks."""
    ui_url: str | None = None


class Bootstrap(BaseModel):
    """What a client or an executor learns from the server; the Temporal part is only for executors and workers."""

    project: str
    """`<org>.<project>`."""
    server_version: str
    sqlmesh_version: str
    gateways: list[Gateway] = []
    temporal: TemporalAddress | None = None
    codec_keys: dict[str, str] | None = None
    """Key id to base64 of a 32-byte key, newest first."""
