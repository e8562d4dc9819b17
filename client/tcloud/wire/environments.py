"""Environments and their schedules."""

from datetime import datetime

from pydantic import BaseModel

from tcloud.wire.pauses import Pause
from tcloud.wire.policies import EvaluationPolicy

__all__ = ["CronGroup", "Environment", "Schedule", "ScheduledEnvironment", "UnscheduledCron"]


class Environment(BaseModel):
    """An environment as `tcloud environments` shows it."""

    name: str
    status: str
    """`ready`, or `updating` while its record is not finalized."""
    plan_id: str
    models: int
    paused: bool = False
    """Whether the whole environment is."""
    pauses: list[Pause] = []
    """All that are in force: that of the environment first, then those of models."""
    scheduled: bool = False
    """Whether its models run by themselves."""
    scheduled_by: str | None = None
    """Who decided that it is, or is not, scheduled; None where the server's settings do."""
    scheduled_at: datetime | None = None
    """When that was decided."""
    next_run_at: datetime | None = None
    gateway: str | None = None
    default_catalog: str | None = None
    evaluation_policy: EvaluationPolicy | None = None
    """What the project asked of evaluations when the environment was planned."""
    python_environment: str | None = None
    """Key of the Python environment that its models run in; None is the executors' own interpreter."""


class CronGroup(BaseModel):
    """The models of an environment that share one cron and timezone."""

    cron: str
    timezone: str
    models: list[str]


class UnscheduledCron(CronGroup):
    """Models whose cron or timezone Temporal does not take: they run only by hand."""

    reason: str


class ScheduledEnvironment(BaseModel):
    """An environment whose models run by themselves, with all of their crons."""

    environment: str
    crons: list[CronGroup]
    pause: str | None = None
    """Why its schedules are paused, if they are; for their notes."""
    resumed_at: datetime | None = None
    """When it was last resumed: what was due before then is nobody's tick any more."""


class Schedule(BaseModel):
    """A Temporal schedule of one environment."""

    schedule_id: str
    environment: str
    cron: str
    timezone: str
    models: list[str]
    next_run_at: datetime | None
    paused: bool
    error_message: str | None = None
    """Why there is no such schedule: Temporal does not take the cron or its timezone."""
