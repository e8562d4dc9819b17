"""What the public API answers. Tools read these fields by name: they only ever get more."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tcloud.wire.statuses import Status

__all__ = ["PublicAudit", "PublicDag", "PublicEvaluation", "PublicNode", "PublicRun"]


class PublicNode(BaseModel):
    """A model, or a standalone audit, of an environment."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    """The fully qualified name: what `parent_names` and the `node_name` of evaluations speak of."""
    model_name: str
    """The name as it is written in the project."""
    description: str | None
    source_type: Literal["sql", "seed", "python", "external", "audit"]
    tags: list[str]
    parent_names: list[str]
    audit_names: list[str]
    type: Literal["model", "audit"]
    link: str


class PublicDag(BaseModel):
    """An environment's models, and how often at most something is due among them."""

    environment: str
    start_at: datetime
    schedule_seconds: int
    schedule_cron: str
    nodes: list[PublicNode]
    link: str


class PublicRun(BaseModel):
    """A run."""

    environment: str
    run_id: str
    start_at: datetime | None
    end_at: datetime | None
    error_message: str | None
    status: Status
    link: str


class PublicAudit(BaseModel):
    """An audit of one evaluation."""

    name: str
    execution_time: datetime | None
    interval_start: datetime
    interval_end: datetime
    status: Literal[Status.SUCCESS, Status.FAILED]
    link: str
    log_link: str
    log: str | None = None


class PublicEvaluation(BaseModel):
    """An evaluation of one batch of intervals; it belongs to a run or to a plan."""

    evaluation_id: str
    run_id: str | None = None
    plan_id: str | None = None
    node_name: str
    start_at: datetime | None
    end_at: datetime | None
    error_message: str | None
    log: str | None
    status: Status
    link: str
    log_link: str
    audits: list[PublicAudit] = []
