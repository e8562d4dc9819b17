"""Environments and their schedules."""

from datetime import datetime

from pydantic import BaseModel

__all__ = ["CronGroup", "Environment", "Schedule", "UnscheduledCron"]


class Environment(BaseModel):
    """An environment as `tcloud environments` shows it."""

    name: str
    status: str
    """`ready`, or `updating` while its record is not finalized."""
    plan_id: str
    models: int
    paused: bool = False
    next_run_at: datetime | None = None
    gateway: str | None = None
    default_catalog: str | None = None


class CronGroup(BaseModel):
    """The models of an environment that share one cron and timezone."""

    cron: str
    timezone: str
    models: list[str]


class UnscheduledCron(CronGroup):
    """Models whose cron or timezone Temporal does not take: they run only by hand."""

    reason: str


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
