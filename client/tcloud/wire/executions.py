"""Executions: the unit DAG of one run, or of one backfill stage of one plan, and its units.

An execution is prepared once, in a runner process, with SQLMesh's own functions, and stored by the server
as one immutable JSON document (`Execution`). From then on workflows carry only its id and the numbers of its units.
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from tcloud.wire.runs import Audit
from tcloud.wire.statuses import Status

__all__ = [
    "ConsoleEvent",
    "Execution",
    "ExecutionOutcome",
    "FinishUnit",
    "LeaseRenewal",
    "LeasesRenewed",
    "OwnerKind",
    "SnapshotRef",
    "StartUnit",
    "TurnAnswer",
    "TurnRefusal",
    "Unit",
    "UnitKind",
    "UnitStarted",
    "UnitTurn",
    "UnitTurns",
    "Verdict",
]


class OwnerKind(StrEnum):
    """Who an execution belongs to: the owner of its claims and of its console events."""

    PLAN = "plan"
    RUN = "run"


class UnitKind(StrEnum):
    """SQLMesh's scheduling units; `audit` is an `EvaluateNode` of an audit-only execution."""

    EVALUATE = "evaluate"
    AUDIT = "audit"
    CREATE = "create"
    DUMMY = "dummy"


class SnapshotRef(BaseModel):
    """One snapshot of the environment, with the intervals it had when the execution was prepared."""

    name: str
    identifier: str
    version: str | None
    intervals: list[tuple[int, int]] = []
    dev_intervals: list[tuple[int, int]] = []
    gateway: str | None = None
    """The model's own gateway; None is the execution's."""
    retries: int = 0
    """How often a failed evaluation of it is repeated."""
    retry_backoff_seconds: float = 0
    timeout_seconds: float | None = None
    """After how long an evaluation of it is stopped; None leaves it to the executor."""
    concurrent_evaluations: int | None = None
    """How many evaluations of the model there may be at a time, whosever they are; None is no limit."""


class Unit(BaseModel):
    """A node of SQLMesh's unit DAG; `dependencies` are positions in `Execution.units`, always smaller than its own."""

    kind: UnitKind
    snapshot: int
    """Position in `Execution.snapshots`."""
    interval: tuple[int, int] | None = None
    batch_index: int | None = None
    dependencies: list[int] = []


class Execution(BaseModel):
    """Everything that a runner needs to evaluate any unit, without computing it again.

    `execution_id` is the run id, or `<plan id>.<stage index>`.
    """

    execution_id: str
    owner_kind: OwnerKind
    owner_id: str
    environment: str
    naming_info: dict[str, Any]
    gateway: str
    default_catalog: str | None
    python_environment: str | None = None
    """Key of the Python environment that its units are evaluated in; None is the executor's own interpreter."""
    start: str | int | None = None
    end: str | int | None = None
    execution_time: str | int
    deployability_index: dict[str, Any]
    allow_destructive: list[str] = []
    allow_additive: list[str] = []
    selected_models: list[str] | None = None
    is_restatement: bool = False
    has_environment_statements: bool = False
    ignores_pauses: bool = False
    """Somebody who may do so has asked for a run whatever is paused."""
    tables_to_create: list[int] = []
    """Positions in `snapshots` whose physical table did not exist when the execution was prepared."""
    tables_to_look_for: list[int] = []
    """Positions of those whose gateway was out of reach then: whoever evaluates them looks whether there is a table."""
    auto_restatement_triggers: dict[str, list[str]] = {}
    """Snapshot name to the names of the snapshots whose auto-restatement caused its own."""
    snapshots: list[SnapshotRef] = []
    units: list[Unit] = []


class ConsoleEvent(BaseModel):
    """One call of SQLMesh's `Console`, to be repeated on the user's terminal (`tempomesh_runner.console`)."""

    type: str
    """The method's name."""
    payload: dict[str, Any] = {}


class StartUnit(BaseModel):
    """Asks for the claim on a unit's physical table and for the record of its evaluation, in one transaction."""

    execution_id: str
    unit: int
    executor: str


class Verdict(StrEnum):
    """What the server says to `StartUnit`."""

    GO = "go"
    DONE = "done"
    """This execution already finished the unit: a retry after a lost answer."""
    CLAIMED = "claimed"
    """Another plan or run holds the physical table, another executor is still at the unit, or there are as many
    evaluations of the model as its project allows: ask again."""
    SKIP = "skip"
    """Leave the unit out: another run waits for its physical table already, a plan has replaced its model, or it is
    paused."""
    FULL = "full"
    """The gateway takes no more concurrent tasks: ask again soon."""
    STOP = "stop"
    """The plan or run was cancelled or is over."""


class UnitStarted(BaseModel):
    """The answer to `StartUnit`."""

    verdict: Verdict
    evaluation_id: str | None = None
    fence: int | None = None
    """Must come back with `FinishUnit`; an older one is refused, because its lease was lost."""
    lease_seconds: float | None = None
    recheck: bool = False
    """With `GO`: somebody may have done this very interval since the execution was prepared: another plan or run, which
    has written the table since, or an earlier attempt, whose end nobody knows."""
    claimed_by: str | None = None
    status: Status | None = None
    """With `DONE`: how the unit ended. With `SKIP`: `skipped`, or `preempted` by a plan."""
    error_message: str | None = None
    """With `DONE`: why the unit failed. With `SKIP`: why it is left out."""
    is_paused: bool = False
    """With `SKIP`: it is left out because of a pause."""


class FinishUnit(BaseModel):
    """Adds the interval, closes the record and releases the claim, in one transaction."""

    evaluation_id: str
    fence: int
    status: Status
    """`scheduled` hands the unit back: its error is one that another attempt may not meet."""
    error_message: str | None = None
    cause: dict[str, Any] | None = None
    """The error as `tempomesh_runner.console` encodes it, so that a terminal shows what SQLMesh would."""
    log: str | None = None
    audits: list[Audit] = []
    interval: tuple[int, int] | None = None
    """What was evaluated (half-open, milliseconds since the epoch): less than the unit's where others did the rest."""
    intervals: dict[str, Any] | None = None
    """SQLMesh's `SnapshotIntervals` as JSON; None where nothing is to be recorded."""
    events: list[ConsoleEvent] = []
    is_retried: bool = False
    """With `scheduled`: the evaluation itself failed, and its project asks for another attempt."""


class UnitTurn(BaseModel):
    """Ends one unit and starts the next: what an executor has to say between two evaluations, in one call.

    Each of the two is a transaction of its own. If the end is refused, nothing is started.
    """

    finish: FinishUnit | None = None
    start: StartUnit | None = None


class UnitTurns(BaseModel):
    """Turns of several bundles in one call; each is answered for itself."""

    turns: list[UnitTurn]


class TurnRefusal(BaseModel):
    """Why a turn was refused: HTTP status, the server's code and one line for a person."""

    status: int
    code: str
    message: str


class TurnAnswer(BaseModel):
    """The answer to a `UnitTurn`."""

    started: UnitStarted | None = None
    """None if nothing was to be started."""
    refused: TurnRefusal | None = None


class LeaseRenewal(BaseModel):
    """Renews the leases of all evaluations that an executor has in flight."""

    executor: str
    evaluations: dict[str, int]
    """Evaluation id to fence."""


class LeasesRenewed(BaseModel):
    """The answer to `LeaseRenewal`: evaluations that must stop at once."""

    lost: list[str] = []


class ExecutionOutcome(BaseModel):
    """Closes an execution: units that failed and units that never started because of them."""

    failed: list[int] = []
    skipped: list[int] = []
    cause: str | None = None
    """Why units were skipped, where it was not a failed unit."""
    errors: dict[int, str] = {}
    """Why units failed whose end no executor could record."""
