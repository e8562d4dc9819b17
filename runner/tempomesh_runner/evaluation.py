"""Evaluates one unit, as `run_node` inside SQLMesh's `Scheduler.run_merged_intervals` does.

What SQLMesh would write to state, the interval, is handed back instead: the server records it together with the
evaluation, in one transaction.
"""

import json
import logging
import typing as t
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

from sqlmesh.core.environment import EnvironmentNamingInfo
from sqlmesh.core.scheduler import Scheduler
from sqlmesh.core.snapshot import (
    DeployabilityIndex,
    Snapshot,
    SnapshotEvaluator,
    SnapshotId,
    SnapshotIdBatch,
    SnapshotIntervals,
)
from sqlmesh.core.snapshot.definition import Interval, remove_interval
from sqlmesh.utils.date import now_timestamp

from tempomesh_runner.causes import encode_cause, is_retryable, message_of
from tempomesh_runner.console import Event, RelayConsole
from tempomesh_runner.process_context import ProcessContext
from tempomesh_runner.query_spans import noted_queries
from tempomesh_runner.state import RemoteStateSync

__all__ = ["UnitEvaluator"]

_LOG_CHARACTERS = 64 * 1024
_KEPT_EXECUTIONS = 8


class _Execution:
    """An execution as it is needed for each of its units, read once."""

    def __init__(self, document: dict[str, t.Any]):
        self.document = document
        self.deployability_index = DeployabilityIndex.model_validate(document["deployability_index"])
        self.naming_info = EnvironmentNamingInfo.model_validate(document["naming_info"])
        self.ids = [SnapshotId(name=s["name"], identifier=s["identifier"]) for s in document["snapshots"]]
        self.references = dict(zip(self.ids, document["snapshots"], strict=True))
        self.tables_to_create = frozenset(document["tables_to_create"])
        self.tables_to_look_for = frozenset(document.get("tables_to_look_for", ()))


class UnitEvaluator:
    """Evaluates units of executions; remembers the executions it has been shown.

    Args:
        context: This process.
    """

    def __init__(self, context: ProcessContext):
        self._context = context
        self._executions: OrderedDict[str, _Execution] = OrderedDict()

    def evaluate(
        self,
        *,
        execution_id: str,
        execution: dict[str, t.Any] | None,
        unit: int,
        recheck: bool,
        traced: bool = False,
    ) -> dict[str, t.Any]:
        """Evaluates a unit.

        Args:
            execution_id: The execution.
            execution: Its document; not needed if this process was shown it before.
            unit: The number of the unit.
            recheck: Whether somebody else may have done the unit's interval since the execution was prepared.
            traced: Whether its statements are noted, for a trace.

        Returns:
            `{"need_execution": True}`, or the outcome: `status`, `intervals`, `audits`, `events`, `log`, and for a
            failure `error`, `cause` and `retryable`; `spans` if it is traced.
        """
        if execution is not None:
            self._executions[execution_id] = _Execution(execution)
            while len(self._executions) > _KEPT_EXECUTIONS:
                self._executions.popitem(last=False)
        known = self._executions.get(execution_id)
        if known is None:
            return {"need_execution": True}
        evaluated = _Unit(self._context, known, unit)
        if not traced:
            return evaluated.evaluate(recheck=recheck)
        with noted_queries() as spans:
            outcome = evaluated.evaluate(recheck=recheck)
        return {**outcome, "spans": spans}


class _CapturedState(RemoteStateSync):
    """State of which one unit adds its interval: the interval is kept here."""

    def __init__(self, context: ProcessContext):
        super().__init__(context.state._transport)
        self.added: SnapshotIntervals | None = None

    def add_snapshots_intervals(self, snapshots_intervals: t.Sequence[SnapshotIntervals]) -> None:
        (added,) = snapshots_intervals
        if self.added is None:
            self.added = added
            return
        for interval in added.intervals:
            self.added.add_interval(*interval)
        for interval in added.dev_intervals:
            self.added.add_dev_interval(*interval)


class _AuditRecorder(SnapshotEvaluator):
    """An evaluator that keeps audit results, also those of a unit that then fails because of them."""

    def __init__(self, evaluator: SnapshotEvaluator):
        self.__dict__.update(evaluator.__dict__)
        self.audits: list[t.Any] = []

    def audit(self, snapshot: Snapshot, **kwargs: t.Any) -> list[t.Any]:
        results = super().audit(snapshot, **kwargs)
        self.audits += results
        return results


class _Unit:
    def __init__(self, context: ProcessContext, read: _Execution, number: int):
        execution = read.document
        self._context = context
        self._read = read
        self._execution = execution
        self._unit = execution["units"][number]
        self._is_plan = execution["owner_kind"] == "plan"
        self._deployability_index = read.deployability_index
        self._naming_info = read.naming_info
        self._snapshots = self._load()
        self._snapshot = self._snapshots[read.ids[self._unit["snapshot"]]]
        self._events: list[Event] = []
        self._console = RelayConsole(self._events.append)
        self._state = _CapturedState(context)
        self._intervals = [tuple(self._unit["interval"])] if self._unit.get("interval") else []
        self._was_written = False
        owner = execution["owner_id"]
        gateway = context.gateways.for_model(execution["gateway"], self._snapshot.model_gateway)
        evaluator = (context.for_plan if self._is_plan else context.for_run)(owner, gateway)
        self._evaluator = _AuditRecorder(evaluator)

    def evaluate(self, *, recheck: bool) -> dict[str, t.Any]:
        if recheck and not self._is_plan and self._intervals:
            self._leave_out_what_others_did()
            if not self._intervals:
                return {"status": "success", "intervals": None, "audits": [], "events": [], "log": ""}
        outcome: dict[str, t.Any] = {"status": "success"}
        with _captured_output() as log:
            try:
                self._run()
            except (Exception, SystemExit) as error:
                outcome = {
                    "status": "failed",
                    "error": message_of(error),
                    "cause": encode_cause(error),
                    "retryable": is_retryable(error),
                }
        added = self._state.added if outcome["status"] == "success" else None
        return {
            **outcome,
            "interval": self._interval,
            "intervals": json.loads(added.json()) if added is not None else None,
            "audits": [_audit(result) for result in self._evaluator.audits],
            "events": self._events,
            "log": log.getvalue()[-_LOG_CHARACTERS:],
            "has_code": self._has_code,
        }

    @property
    def _has_code(self) -> bool:
        """Whether code of the project's takes part: a Python model, a macro, a materialization of its own."""
        kind = self._snapshot.model.kind if self._snapshot.is_model else None
        return bool(getattr(self._snapshot.node, "python_env", None)) or (kind is not None and kind.is_custom)

    def _run(self) -> None:
        scheduler = Scheduler(
            self._snapshots.values(),
            self._evaluator,
            self._state,
            self._execution["default_catalog"],
            console=self._console,
            notification_target_manager=self._context.notifications,
        )
        if self._unit["kind"] == "create":
            self._evaluator.create_snapshot(
                snapshot=self._snapshot,
                snapshots=scheduler.snapshots_by_name,
                deployability_index=self._deployability_index,
                allow_destructive_snapshots=set(self._execution["allow_destructive"]),
                allow_additive_snapshots=set(self._execution["allow_additive"]),
            )
            return
        self._console.start_snapshot_evaluation_progress(self._snapshot)
        started = now_timestamp()
        duration_ms: int | None = None
        try:
            for start, end in self._intervals:
                self._evaluate(scheduler, start, end)
            duration_ms = now_timestamp() - started
        finally:
            self._report(duration_ms)

    def _evaluate(self, scheduler: Scheduler, start: int, end: int) -> None:
        batch_index = self._unit["batch_index"]
        selected = self._execution["selected_models"]
        if self._unit["kind"] == "audit":
            scheduler._audit_snapshot(
                snapshot=self._snapshot,
                environment_naming_info=self._naming_info,
                deployability_index=self._deployability_index,
                snapshots=scheduler.snapshots_by_name,
                start=start,
                end=end,
                execution_time=self._execution["execution_time"],
            )
            return
        was_to_be_created = self._unit["snapshot"] in self._read.tables_to_create
        is_known = not self._was_written and self._unit["snapshot"] not in self._read.tables_to_look_for
        scheduler.evaluate(
            snapshot=self._snapshot,
            environment_naming_info=self._naming_info,
            start=start,
            end=end,
            execution_time=self._execution["execution_time"],
            deployability_index=self._deployability_index,
            batch_index=batch_index,
            allow_destructive_snapshots=set(self._execution["allow_destructive"]),
            allow_additive_snapshots=set(self._execution["allow_additive"]),
            # The first batch of a new table creates it; SQLMesh looks for itself only where this says None.
            target_table_exists=not was_to_be_created or batch_index > 0 if is_known else None,
            selected_models=None if selected is None else set(selected),
        )

    def _report(self, duration_ms: int | None) -> None:
        assert self._interval is not None  # noqa: S101 - what is evaluated or audited has one
        batch_index = self._unit["batch_index"]
        failed = sum(1 for result in self._evaluator.audits if result.count)
        # As in SQLMesh: an evaluation that raised has no audit results to count.
        counted = len(self._evaluator.audits) if duration_ms is not None else 0
        failed = failed if duration_ms is not None else 0
        triggers = self._execution["auto_restatement_triggers"].get(self._snapshot.name)
        self._console.update_snapshot_evaluation_progress(
            self._snapshot,
            self._interval,
            batch_index,
            duration_ms,
            counted - failed,
            failed,
            execution_stats=self._evaluator.execution_tracker.get_execution_stats(
                SnapshotIdBatch(snapshot_id=self._snapshot.snapshot_id, batch_id=batch_index)
            ),
            auto_restatement_triggers=[_parse_id(trigger) for trigger in triggers] if triggers else None,
        )

    @property
    def _interval(self) -> Interval | None:
        """What is evaluated, from its first moment to its last."""
        return (self._intervals[0][0], self._intervals[-1][1]) if self._intervals else None

    def _leave_out_what_others_did(self) -> None:
        """Takes out of the unit's interval what others have recorded since the execution was prepared.

        What was recorded even then is due again (it is within a lookback, or was partial), and stays in.
        """
        snapshot = self._snapshot
        prepared = snapshot.intervals, snapshot.dev_intervals
        before = self._recorded()
        snapshot.pending_restatement_intervals = []
        self._context.state.refresh_snapshot_intervals([snapshot])
        # As in `apply_auto_restatements`: what is to be restated counts as missing although it is recorded.
        snapshot.apply_pending_restatement_intervals()
        done = self._recorded()
        snapshot.intervals, snapshot.dev_intervals = prepared
        for interval in before:
            done = remove_interval(done, *interval)
        for interval in done:
            self._intervals = remove_interval(self._intervals, *interval)
        self._was_written = True

    def _recorded(self) -> list[Interval]:
        is_deployable = self._deployability_index.is_deployable(self._snapshot)
        return list(self._snapshot.intervals if is_deployable else self._snapshot.dev_intervals)

    def _load(self) -> dict[SnapshotId, Snapshot]:
        """The unit's snapshot and its parents, which is what SQLMesh renders it with, as of the preparation."""
        store = self._context.store
        references = self._read.references
        own = self._read.ids[self._unit["snapshot"]]
        snapshot = store.of_versions({own: references[own]["version"]})[own]
        needed = [own, *(parent for parent in snapshot.parents if parent in references)]
        snapshots = store.of_versions({s: references[s]["version"] for s in needed})
        if self._is_plan:
            plan_id = self._execution["owner_id"]
            snapshots = {
                s: store.with_seed(found, plan_id) if found.is_seed else found for s, found in snapshots.items()
            }
        for snapshot_id, found in snapshots.items():
            found.intervals = [tuple(i) for i in references[snapshot_id]["intervals"]]
            found.dev_intervals = [tuple(i) for i in references[snapshot_id]["dev_intervals"]]
        return snapshots


class _Tail(StringIO):
    """Keeps the last of what is written, however much it is."""

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.tell() > 4 * _LOG_CHARACTERS:
            kept = self.getvalue()[-_LOG_CHARACTERS:]
            self.seek(0)
            self.truncate()
            super().write(kept)
        return written


@contextmanager
def _captured_output() -> Iterator[StringIO]:
    log = _Tail()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with redirect_stdout(log), redirect_stderr(log):
            yield log
    finally:
        root.removeHandler(handler)


def _audit(result: t.Any) -> dict[str, t.Any]:
    ran = "failed" if result.count else "success"
    status = "skipped" if result.skipped else ran
    return {"name": result.audit.name, "status": status, "blocking": bool(result.blocking), "count": result.count}


def _parse_id(text: str) -> SnapshotId:
    name, identifier = json.loads(text)
    return SnapshotId(name=name, identifier=identifier)
