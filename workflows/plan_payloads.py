"""What plan workflows and their activities pass to one another: ids, stages and statuses, never a plan itself."""

from enum import StrEnum

from pydantic import BaseModel

from workflows.payloads import ErrorText, Walk

__all__ = [
    "CatchUpRef",
    "HoldResult",
    "PlanInput",
    "PlanNotice",
    "PlanOutcome",
    "PlanRef",
    "PlanStages",
    "StageKind",
    "StageRef",
    "StageStatus",
    "StageSummary",
]


class PlanRef(BaseModel):
    """Names a plan that the server has stored."""

    environment: str
    plan_id: str
    traceparent: str | None = None
    """The trace of its submission, if there is one: a W3C `traceparent`."""


class StageKind(StrEnum):
    """How a stage of a plan is applied."""

    SINGLE = "single"
    """One activity."""
    BACKFILL = "backfill"
    """A unit DAG, fanned out over the apply executors."""
    PROMOTION = "promotion"
    """One activity, after the plan has caught up with what runs did to the tables that it replaces."""


class StageSummary(BaseModel):
    """A stage of `build_plan_stages`, without its content."""

    index: int
    name: str
    kind: StageKind


class PlanStages(BaseModel):
    """The stages of a plan, in order. `error` is set, and `stages` empty, if SQLMesh refuses the plan."""

    stages: list[StageSummary] = []
    error: ErrorText | None = None
    has_notifications: bool = False
    """Somebody is to be notified of the plan."""
    gateway: str | None = None
    """The gateway that the plan was made with."""


class StageRef(BaseModel):
    """Names one stage of a stored plan."""

    environment: str
    plan_id: str
    index: int
    gateway: str | None = None
    """Only what of the stage is to be done at this gateway; None is all but what is to be done elsewhere."""


class CatchUpRef(StageRef):
    """Names what a promotion has to catch up with; each round is an execution of its own."""

    round: int


class HoldResult(BaseModel):
    """Whether nobody else has any of the tables."""

    is_held: bool


class PlanNotice(BaseModel):
    """A notification about a plan: SQLMesh's `apply_start`, `apply_end` or `apply_failure`."""

    plan_id: str
    environment: str
    event: str
    error: ErrorText | None = None


class PlanInput(BaseModel):
    """Input of a plan workflow; all but the ids is set only when it continues as new in the middle of a walk."""

    environment: str
    plan_id: str
    stages: PlanStages | None = None
    next_stage: int = 0
    walk: Walk | None = None
    round: int = 0
    """Of the catch-up that `walk` is of."""


class PlanOutcome(BaseModel):
    """How a plan stands (`in_progress`) or ended."""

    plan_id: str
    environment: str
    status: str
    error: ErrorText | None = None


class StageStatus(BaseModel):
    """How a stage of a plan stands or ended."""

    plan_id: str
    index: int
    status: str
    error: ErrorText | None = None
