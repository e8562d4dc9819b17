"""Plans: what a submission answers, and how a plan is shown."""

from datetime import datetime

from pydantic import BaseModel

from tcloud.wire.policies import EvaluationPolicy
from tcloud.wire.statuses import Status

__all__ = ["Plan", "PlanStage", "TablesHeld"]


class PlanStage(BaseModel):
    """One stage of SQLMesh's `build_plan_stages`, in the order in which it is applied."""

    index: int
    name: str
    count: int | None = None
    """How many snapshots it deals with, or statements."""
    status: Status
    start_at: datetime | None = None
    end_at: datetime | None = None
    error_message: str | None = None


class Plan(BaseModel):
    """A plan as the server records it."""

    plan_id: str
    environment: str
    status: Status
    queue_position: int | None = None
    """0 is the plan that is being applied; None once it is done."""
    created_by: str
    created_at: datetime
    start_at: datetime | None = None
    end_at: datetime | None = None
    error_message: str | None = None
    gateway: str
    """The gateway that was selected when the plan was made."""
    default_catalog: str | None = None
    evaluation_policy: EvaluationPolicy | None = None
    """What the project asks of evaluations."""
    requirements: dict[str, str] = {}
    """The Python packages that its environment asks for, with their versions."""
    python_version: str | None = None
    """The Python that its project asks for; None leaves it to the executors."""
    python_environment: str | None = None
    """Key of the Python environment that its models run in; None is the executors' own interpreter."""
    stages: list[PlanStage] = []


class TablesHeld(BaseModel):
    """Whether a plan has all tables to itself that it is about to replace."""

    waiting_for: list[str] = []
    """Plans and runs that are still at some of them."""
