"""What workflows, their activities and their callers say to each other: one model in, one model out.

Nothing here is big: plans, unit DAGs and logs are kept by the server, payloads carry ids, numbers and statuses.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel

__all__ = [
    "RUN_STOPPED",
    "EnvironmentRef",
    "EnvironmentState",
    "ErrorText",
    "ExecutionRef",
    "LimitedUnits",
    "MaintenanceInput",
    "MaintenanceOutcome",
    "PauseRef",
    "PausesRef",
    "PausesStanding",
    "QueryInput",
    "QueryOutcome",
    "ResumeRef",
    "RunInput",
    "RunNotice",
    "RunOutcome",
    "StageResult",
    "StatementsRef",
    "TickRef",
    "UnitGraph",
    "UnitProgress",
    "UnitRef",
    "UnitReport",
    "UnitResult",
    "UnitState",
    "Walk",
]

RUN_STOPPED = "run_stopped"
"""Of a notification about a run that came to an end before its own: its record says whether a plan preempted it, which
SQLMesh tells as `run_end`, or it was cancelled, which is a `run_failure`."""

_LONGEST_ERROR = 4000
_ROOM_FOR_THE_REST = 40


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_ERROR:
        return text
    kept = _LONGEST_ERROR - _ROOM_FOR_THE_REST
    return f"{text[:kept]}… ({len(text) - kept} characters more)"


ErrorText = Annotated[str, AfterValidator(_shortened)]
"""A message of whatever length, cut to what a payload should carry; evaluations have theirs in full."""


class EnvironmentRef(BaseModel):
    """Names an environment of the project whose namespace the workflow runs in."""

    environment: str
    plan_id: str | None = None
    """The plan on whose behalf it is named, if it is one."""


class PauseRef(BaseModel):
    """A pause of an environment, or of models in it: what `pause` signals and the query shows."""

    pause_id: str
    environment: str
    model: str | None = None
    """A name or a selection; None is the whole environment."""
    reason: str
    created_by: str
    created_at: datetime
    until: datetime | None = None


class ResumeRef(BaseModel):
    """A pause that somebody has ended: what `resume` signals."""

    environment: str
    pause_id: str
    resumed_by: str
    run_id: str | None = None
    """The run that evaluates what is due, already recorded; None if the next tick is to do that."""


class PausesRef(BaseModel):
    """Asks how the pauses of an environment stand."""

    environment: str
    run_id: str
    """What a run is to be called that evaluates what is due because a pause has ended by itself."""


class PausesStanding(BaseModel):
    """How they stand: the record is the truth, signals may have come in any order."""

    pauses: list[PauseRef] = []
    run_id: str | None = None
    """Such a run, to be started."""


class EnvironmentState(BaseModel):
    """Input of the environment workflow (what it carries over when it continues as new) and answer of its query."""

    environment: str
    queue: list[str] = []
    """Plan ids in the order of their arrival; the first is being applied."""
    applied: int = 0
    """Plans applied since the workflow last continued as new."""
    pauses: list[PauseRef] = []
    """The pauses in force."""
    runs_to_start: list[str] = []
    """Runs that evaluate what is due because a pause has ended, and are not started yet."""
    is_unsettled: bool = False
    """A signal has come of which nothing has followed yet."""
    traceparents: dict[str, str] = {}
    """The traces of plans in the queue that have one."""


class StageResult(BaseModel):
    """How a stage ended; `error` is SQLMesh's message, None if it succeeded."""

    error: ErrorText | None = None
    paused: ErrorText | None = None
    """Why statements of a run were left out: the environment is paused."""
    elsewhere: list[str] = []
    """Gateways for which that executor has no connection: what is to be done there is still to be done."""


class LimitedUnits(BaseModel):
    """Units of one model that are evaluated no more than so many at a time."""

    units: list[int]
    at_once: int


class UnitGraph(BaseModel):
    """The shape of an execution's unit DAG.

    `kinds` has one letter a unit (`e` evaluate, `a` audit, `c` create, `d` dummy), `dependencies` the numbers of the
    units that each one waits for. Numbers are topologically sorted: a dependency is smaller than its dependent.
    """

    execution_id: str = ""
    kinds: str = ""
    dependencies: list[list[int]] = []
    nothing_to_do: bool = False
    has_environment_statements: bool = False
    has_notifications: bool = False
    """Somebody is to be notified of the run."""
    gateway: str | None = None
    """Where what is not of another gateway is evaluated."""
    gateways: dict[str, list[int]] = {}
    """Units of models that have a gateway of their own, by its name."""
    elsewhere: str | None = None
    """The gateway to prepare it at: the executor that was asked has no connection for it."""
    limited: list[LimitedUnits] = []
    """Units of models whose evaluations have a limit, where there are more units than that."""
    error: ErrorText | None = None
    """The preparation failed for good (a signal raised, a macro is broken)."""
    paused: ErrorText | None = None
    """Why nothing is to be done: the environment is paused."""


class UnitState(StrEnum):
    """What became of a unit; one letter each, so that thousands fit into a payload."""

    WAITING = "."
    DONE = "d"
    FAILED = "f"
    SKIPPED = "s"


class UnitReport(StrEnum):
    """What an activity says of a unit of its bundle; one letter each."""

    DONE = "d"
    FAILED = "f"
    SKIPPED = "s"
    """The server left it out, and recorded why."""
    PREEMPTED = "p"
    """A plan has replaced its model."""
    CLAIMED = "c"
    """Somebody holds its physical table, or every slot of its gateway: to be tried again later."""
    TROUBLE = "x"
    """The infrastructure failed in the middle of it: to be tried again."""
    RETRY = "y"
    """It failed, and its project asks for another attempt: to be tried again after `retry_waits`."""
    RUNNING = "r"
    RETURNED = "."
    """It was not started, or it was stopped and handed back: anyone may take it."""


class UnitRef(BaseModel):
    """Names units of an execution that one activity evaluates, one after another: a bundle.

    Each waits only for units that are done, or that are before it in the bundle.
    """

    execution_id: str
    environment: str
    bundle: int = 0
    """The bundle's number in its workflow."""
    units: list[int]
    retried: dict[int, int] = {}
    """How often each unit has been tried again because it failed, where it has been."""


class UnitResult(BaseModel):
    """What became of a bundle's units: one `UnitReport` letter each, in the bundle's order."""

    reports: str = ""
    stopped: bool = False
    """The server says that the plan or run is over."""
    trouble: ErrorText | None = None
    """With `TROUBLE`: what it was."""
    retry_waits: dict[int, float] = {}
    """With `RETRY`: after how many seconds each of those units is to be tried again."""
    paused: ErrorText | None = None
    """Why units of it were left out, where it was because of a pause."""


class UnitProgress(BaseModel):
    """How far a bundle has come whose current unit takes long; what it has not started, others may take."""

    bundle: int
    reports: str
    retry_waits: dict[int, float] = {}
    """As in `UnitResult`."""


class Walk(BaseModel):
    """A unit DAG and how far its evaluation has come: what a workflow carries over when it continues as new.

    `states` has one `UnitState` letter a unit, and is empty before the first one is evaluated.
    """

    graph: UnitGraph
    states: str = ""
    stopped: bool = False
    """The server said that the plan or run is over, so nothing more is started."""
    errors: dict[int, ErrorText] = {}
    """Why units failed that no executor could finish."""
    retried: dict[int, int] = {}
    """How often units have been tried again because they failed."""
    preempted: bool = False
    """A plan has replaced models of it: what is new in the environment is still to be evaluated."""
    paused: ErrorText | None = None
    """Why units of it were left out, where it was because of a pause."""

    def numbers(self, state: UnitState) -> list[int]:
        """The units that are in a state."""
        return [number for number, letter in enumerate(self.states) if letter == state]

    @property
    def finished(self) -> bool:
        """Whether no unit is left to evaluate."""
        return self.stopped or (len(self.states) == len(self.graph.kinds) and UnitState.WAITING not in self.states)


class ExecutionRef(BaseModel):
    """An execution and what became of it, to be recorded."""

    execution_id: str
    environment: str
    failed: list[int] = []
    skipped: list[int] = []
    cause: str | None = None
    errors: dict[int, ErrorText] = {}
    """Why units failed of which the server has no end: no executor could finish them."""


class StatementsRef(BaseModel):
    """Environment statements (`before_all`, `after_all`) of a run."""

    execution_id: str
    environment: str
    runtime_stage: str


class RunInput(BaseModel):
    """Input of a run workflow; the options of a manual run are kept by the server under its run id.

    `walk` is set when the run continues as new in the middle of its units.
    """

    environment: str
    trigger: str = "schedule"
    round: int = 1
    """Counts how often the run has been prepared: again after a plan has changed its environment."""
    failures: int = 0
    """Units that failed in earlier rounds."""
    walk: Walk | None = None


class RunOutcome(BaseModel):
    """How a run ended. `status` is one of the contract's statuses, or `nothing_to_do`."""

    run_id: str
    environment: str
    status: str
    error: ErrorText | None = None


class RunNotice(BaseModel):
    """A notification about a run: SQLMesh's `run_start`, `run_end` or `run_failure`, or `RUN_STOPPED`."""

    run_id: str
    environment: str
    event: str
    error: ErrorText | None = None


class QueryInput(BaseModel):
    """Names a question to a warehouse that the server has stored."""

    query_id: str
    is_housekeeping: bool = False
    """It removes things, which nothing may do while a plan is being applied."""


class QueryOutcome(BaseModel):
    """How a question ended; its answer is kept by the server."""

    query_id: str
    status: str
    error: ErrorText | None = None


class MaintenanceInput(BaseModel):
    """Input of the maintenance workflow and of its activities; all of a project is maintained."""


class MaintenanceOutcome(BaseModel):
    """What a round of maintenance has put right: schedule ids, and the environments that got a run for missed ticks."""

    created: list[str] = []
    updated: list[str] = []
    deleted: list[str] = []
    paused: list[str] = []
    """Paused by somebody in Temporal, and left so."""
    caught_up: list[str] = []


class TickRef(BaseModel):
    """A run that a schedule has started."""

    environment: str
    run_id: str
    started_at: datetime
