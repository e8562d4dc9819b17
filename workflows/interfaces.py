"""The activities that workflows call, as interfaces: who implements them is none of a workflow's business.

`activities` implements them; a worker registers the implementations under these very names.
"""

from abc import ABC, abstractmethod
from enum import StrEnum

from temporalio import activity

from workflows.payloads import (
    EnvironmentRef,
    ExecutionRef,
    MaintenanceInput,
    MaintenanceOutcome,
    PausesRef,
    PausesStanding,
    QueryInput,
    QueryOutcome,
    RunInput,
    RunNotice,
    RunOutcome,
    StageResult,
    StatementsRef,
    TickRef,
    UnitGraph,
    UnitRef,
    UnitResult,
)
from workflows.plan_payloads import (
    CatchUpRef,
    HoldResult,
    PlanNotice,
    PlanOutcome,
    PlanRef,
    PlanStages,
    StageRef,
    StageStatus,
)

__all__ = [
    "CONTROL_QUEUE",
    "JANITOR",
    "MAINTENANCE",
    "ControlActivities",
    "ExecutorActivities",
    "ExecutorQueue",
    "queue_of",
]

CONTROL_QUEUE = "control"
"""Task queue of workflows and of activities that touch only the control plane."""

JANITOR = "janitor"
"""Id of the workflow that does housekeeping: Temporal lets there be one of that id at a time."""

MAINTENANCE = "maintenance"
"""Id of the schedule that starts the maintenance of a project, and base id of the workflows that do it."""


class ExecutorQueue(StrEnum):
    """Task queues of the executors."""

    RUN = "run"
    APPLY = "apply"


def queue_of(kind: ExecutorQueue, gateway: str | None) -> str:
    """The queue of executors that have a connection for a gateway; that of all executors of the kind without one.

    Every executor serves the queue of its kind, and one more for each of its gateways.
    """
    return f"{kind.value}/{gateway.lower()}" if gateway else kind.value


class ExecutorActivities(ABC):
    """What executors do: everything that needs SQLMesh, a warehouse or the code of its users."""

    @activity.defn
    @abstractmethod
    async def build_stages(self, plan: PlanRef) -> PlanStages:
        """Splits a plan into SQLMesh's stages and stores them; refuses a plan whose environment has moved on."""

    @activity.defn
    @abstractmethod
    async def apply_stage(self, stage: StageRef) -> StageResult:
        """Applies one stage that is not a unit DAG."""

    @activity.defn
    @abstractmethod
    async def prepare_backfill(self, stage: StageRef) -> UnitGraph:
        """Turns a backfill stage into an execution."""

    @activity.defn
    @abstractmethod
    async def prepare_catch_up(self, catch_up: CatchUpRef) -> UnitGraph:
        """Turns what runs did to the tables that a plan replaces, while it was applied, into an execution."""

    @activity.defn
    @abstractmethod
    async def prepare_run(self, run: RunInput) -> UnitGraph:
        """Finds what is due in an environment and turns it into an execution; the run id is the workflow's."""

    @activity.defn
    @abstractmethod
    async def run_statements(self, statements: StatementsRef) -> StageResult:
        """Executes an environment's `before_all` or `after_all` statements."""

    @activity.defn
    @abstractmethod
    async def notify_run(self, notice: RunNotice) -> None:
        """Tells whom the executor's configuration names how a run goes; at most once."""

    @activity.defn
    @abstractmethod
    async def notify_plan(self, notice: PlanNotice) -> None:
        """Tells whom the executor's configuration names how a plan goes; at most once."""

    @activity.defn
    @abstractmethod
    async def evaluate(self, units: UnitRef) -> UnitResult:
        """Evaluates units, one after another, each once."""

    @activity.defn
    @abstractmethod
    async def answer_query(self, query: QueryInput) -> StageResult:
        """Answers a question to the warehouse, and has the server keep the answer; or does the janitor's work."""


class ControlActivities(ABC):
    """What the control worker does: records and schedules."""

    @activity.defn
    @abstractmethod
    async def record_plan_status(self, plan: PlanOutcome) -> None:
        """Records how a plan stands."""

    @activity.defn
    @abstractmethod
    async def record_stage_status(self, stage: StageStatus) -> None:
        """Records how a stage of a plan stands."""

    @activity.defn
    @abstractmethod
    async def hold_tables(self, stage: StageRef) -> HoldResult:
        """Keeps runs away from the tables that a promotion replaces, until the plan is over."""

    @activity.defn
    @abstractmethod
    async def record_outcome(self, execution: ExecutionRef) -> None:
        """Records the units that never started, and tells whoever watches that the evaluation is over."""

    @activity.defn
    @abstractmethod
    async def record_run_status(self, run: RunOutcome) -> None:
        """Records how a run ended."""

    @activity.defn
    @abstractmethod
    async def begin_query(self, query: QueryInput) -> None:
        """Records that housekeeping begins; fails for as long as a plan is being applied."""

    @activity.defn
    @abstractmethod
    async def record_query_status(self, query: QueryOutcome) -> None:
        """Records how a question ended."""

    @activity.defn
    @abstractmethod
    async def sync_schedules(self, environment: EnvironmentRef) -> None:
        """Brings the Temporal schedules of an environment in line with the crons of its models."""

    @activity.defn
    @abstractmethod
    async def settle_pauses(self, pauses: PausesRef) -> PausesStanding:
        """Ends pauses whose time has come, has the environment's schedules paused or not, and says what is in force."""

    @activity.defn
    @abstractmethod
    async def reconcile_schedules(self, maintenance: MaintenanceInput) -> MaintenanceOutcome:
        """Puts right what differs from what there should be, in all environments, and makes up for missed ticks."""

    @activity.defn
    @abstractmethod
    async def has_later_tick(self, tick: TickRef) -> bool:
        """Whether a run that another tick of the environment started later is waiting or under way."""

    @activity.defn
    @abstractmethod
    async def has_waiting_tick(self, tick: TickRef) -> bool:
        """Whether a run that another tick of the environment started earlier is waiting for an executor."""
