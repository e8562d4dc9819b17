"""Runs and the evaluations inside them."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from tcloud.wire.statuses import Status

__all__ = ["Audit", "Evaluation", "Run", "RunOptions", "RunTrigger"]


class RunTrigger(StrEnum):
    """What started a run."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    RESUME = "resume"


class RunOptions(BaseModel):
    """The options of `sqlmesh run`, with SQLMesh's meaning."""

    model_config = ConfigDict(extra="forbid")

    environment: str
    start: str | int | None = None
    end: str | int | None = None
    execution_time: str | int | None = None
    ignore_cron: bool = False
    select_models: list[str] | None = None
    """Fully qualified snapshot names, already expanded by SQLMesh's selector on the client."""
    exit_on_env_update: bool = False
    """Whether the run ends, as `preempted`, when a plan changes the environment; it goes on with what is new if not."""
    ignore_pause: bool = False
    """Whether it runs whatever is paused; takes `manage`."""


class Run(BaseModel):
    """A run as the server records it."""

    run_id: str
    environment: str
    status: Status
    trigger: RunTrigger
    created_by: str | None = None
    start_at: datetime
    end_at: datetime | None = None
    error_message: str | None = None
    evaluations: list["Evaluation"] | None = None
    """Present only where one run is shown."""


class Audit(BaseModel):
    """The outcome of one audit of one evaluation."""

    name: str
    status: Status
    blocking: bool
    count: int | None = None
    """Rows that violate the audit; None if the audit was skipped."""


class Evaluation(BaseModel):
    """One unit of work on one snapshot."""

    evaluation_id: str
    run_id: str | None = None
    plan_id: str | None = None
    environment: str | None = None
    """Present only where evaluations of several runs and plans are listed."""
    model: str
    interval_start: datetime | None = None
    interval_end: datetime | None = None
    batch_index: int | None = None
    status: Status
    attempt: int
    executor: str | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    error_message: str | None = None
    log: str | None = None
    """What SQLMesh and the model printed; absent from listings of a model's history."""
    audits: list[Audit] = []
