"""Evaluates bundles of units, each bundle one unit after another, in one activity.

An activity of Temporal costs more than most evaluations. Bundles make that cost small without making anyone wait: as
soon as a unit takes long, the workflow is told how far its bundle has come, and gets back what has not been started.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

import httpx
import structlog

from activities.executions import Executions
from activities.units import UnitEvaluations
from tcloud.api.executor import RefusedError
from tcloud.wire.executions import Execution, FinishUnit, UnitStarted, Verdict
from tcloud.wire.statuses import Status
from workflows.payloads import UnitRef, UnitReport, UnitResult

__all__ = ["Report", "UnitBundles"]

Report = Callable[[str, dict[int, float]], Awaitable[None]]
"""Tells the workflow how far a bundle has come: one `UnitReport` letter a unit, and after how many seconds units that
are to be tried again are."""

_log = structlog.get_logger(__name__)
_FENCED = "TM-FENCED"
_LONG_SECONDS = 0.75
"""A unit that takes longer keeps the rest of its bundle no more."""

_BUNDLE_SECONDS = 2.0
"""Nor does a bundle that takes longer: what it has done may be what others wait for."""

_FULL_SECONDS = 0.2
_FULL_TRIES = 20
"""After so many tries for a slot of a gateway the bundle goes on: units of other gateways may be in it."""

_BY_STATUS = {
    Status.SUCCESS: UnitReport.DONE,
    Status.SKIPPED: UnitReport.SKIPPED,
    Status.PREEMPTED: UnitReport.PREEMPTED,
}


class UnitBundles:
    """Evaluates bundles.

    Args:
        executions: The execution documents.
        evaluations: Evaluates one unit.
    """

    def __init__(self, executions: Executions, evaluations: UnitEvaluations):
        self._executions = executions
        self._evaluations = evaluations
        self._in_flight = 0

    async def evaluate(self, units: UnitRef, report: Report, is_stopping: Callable[[], bool]) -> UnitResult:
        """Evaluates a bundle, and says what became of each of its units.

        Args:
            units: The bundle.
            report: Called if a unit takes long while others wait behind it.
            is_stopping: Whether this executor is about to stop: then nothing more is started.

        Raises:
            RefusedError, httpx.HTTPError: If the server has no such execution, or has not answered for minutes.
            asyncio.CancelledError: If the plan or run was cancelled.
        """
        execution = await self._executions.get(units.execution_id)
        await self._evaluations.prepare(execution)
        self._in_flight += 1
        try:
            bundle = _Bundle(self._evaluations, execution, units, report, is_stopping, lambda: self._in_flight == 1)
            return await bundle.evaluate()
        finally:
            self._in_flight -= 1


class _Bundle:
    def __init__(
        self,
        evaluations: UnitEvaluations,
        execution: Execution,
        units: UnitRef,
        report: Report,
        is_stopping: Callable[[], bool],
        is_alone: Callable[[], bool],
    ):
        self._evaluations = evaluations
        self._execution = execution
        self._report = report
        self._is_stopping = is_stopping
        self._is_alone = is_alone
        self._reports = dict.fromkeys(units.units, UnitReport.RETURNED)
        self._retried = units.retried
        self._pending = deque(units.units)
        self._since = monotonic()
        self._evaluated: tuple[int, FinishUnit] | None = None
        """The unit that is to be recorded together with the start of the next one."""
        self._recording: asyncio.Task[None] | None = None
        self._stopped = False
        self._trouble: str | None = None
        self._retry_waits: dict[int, float] = {}
        self._paused: str | None = None

    async def evaluate(self) -> UnitResult:
        try:
            while self._pending and not self._stopped and not self._is_stopping():
                unit = self._pending.popleft()
                if not self._waits_for_lost(unit):
                    await self._take(unit)
            await self._settle()
            if self._evaluated is not None:
                await self._record(*self._evaluated)
        except asyncio.CancelledError:
            # An executor that stops has handed back what it was at; a cancelled plan or run has no use for the rest.
            if self._recording is not None:
                await asyncio.shield(self._recording)
            if not self._is_stopping():
                raise
        return UnitResult(
            # What still runs when the bundle ends was stopped, and has been handed back.
            reports="".join(self._reports.values()).replace(UnitReport.RUNNING, UnitReport.RETURNED),
            stopped=self._stopped,
            trouble=self._trouble,
            retry_waits=self._retry_waits,
            paused=self._paused,
        )

    def _waits_for_lost(self, unit: int) -> bool:
        """Whether a unit of the bundle that comes before this one was not done; the workflow knows what follows."""
        evaluated = {UnitReport.DONE, UnitReport.RUNNING}
        earlier = (self._reports[d] for d in self._execution.units[unit].dependencies if d in self._reports)
        return any(report not in evaluated for report in earlier)

    async def _take(self, unit: int) -> None:
        started = await self._start(unit)
        if started is None:
            return
        match started.verdict:
            case Verdict.GO:
                self._reports[unit] = UnitReport.RUNNING
                async with self._handing_back():
                    retried = self._retried.get(unit, 0)
                    finish = await self._evaluations.run(self._execution, unit, started, retried)
                await self._settle()
                self._ended(unit, finish)
            case Verdict.DONE:
                self._reports[unit] = _BY_STATUS.get(started.status or Status.FAILED, UnitReport.FAILED)
            case Verdict.CLAIMED | Verdict.FULL:
                self._reports[unit] = UnitReport.CLAIMED
            case Verdict.SKIP:
                self._reports[unit] = _BY_STATUS.get(started.status or Status.SKIPPED, UnitReport.SKIPPED)
                if started.is_paused:
                    self._paused = started.error_message
            case Verdict.STOP:
                self._stopped = True

    async def _start(self, unit: int) -> UnitStarted | None:
        await self._settle()
        evaluated, self._evaluated = self._evaluated, None
        if evaluated is not None and self._is_alone():
            # Nobody needs the processors that a second call takes: it is recorded while the next one is evaluated.
            try:
                started = await self._evaluations.start(self._execution.execution_id, unit, None)
            finally:
                self._recording = asyncio.create_task(self._record(*evaluated))
            if started.verdict is not Verdict.FULL:
                return started
            # The slot may be that of the unit before: it is free once that is recorded.
            await self._settle()
            return await self._started(unit, None)
        try:
            started = await self._started(unit, evaluated[1] if evaluated else None)
        except RefusedError as error:
            if error.code != _FENCED or evaluated is None:
                raise
            self._lost(evaluated[0], error)
            self._pending.appendleft(unit)
            return None
        if evaluated is not None:
            self._recorded(*evaluated)
        return started

    async def _started(self, unit: int, before: FinishUnit | None) -> UnitStarted:
        started = await self._evaluations.start(self._execution.execution_id, unit, before)
        for _ in range(_FULL_TRIES):
            if started.verdict is not Verdict.FULL or self._is_stopping():
                break
            # Whoever waits here has nothing else to do: the next unit would not get a slot either.
            await asyncio.sleep(_FULL_SECONDS)
            started = await self._evaluations.start(self._execution.execution_id, unit, None)
        return started

    async def _settle(self) -> None:
        """Waits until the unit before is recorded: none is recorded before the one that it follows."""
        recording, self._recording = self._recording, None
        if recording is not None:
            await recording

    async def _record(self, unit: int, finish: FinishUnit) -> None:
        try:
            await self._evaluations.finish(finish)
        except RefusedError as error:
            if error.code != _FENCED:
                raise
            self._lost(unit, error)
        else:
            self._recorded(unit, finish)

    def _ended(self, unit: int, finish: FinishUnit) -> None:
        if self._waits_for_lost(unit):
            reason = "The unit before it could not be recorded."
            finish = FinishUnit(
                evaluation_id=finish.evaluation_id, fence=finish.fence, status=Status.SCHEDULED, error_message=reason
            )
        self._evaluated = unit, finish
        if finish.status is not Status.SUCCESS:
            # What follows it in the bundle is not started.
            self._reports[unit] = UnitReport.FAILED

    def _recorded(self, unit: int, finish: FinishUnit) -> None:
        match finish.status:
            case Status.SUCCESS:
                self._reports[unit] = UnitReport.DONE
            case Status.SCHEDULED if finish.is_retried:
                self._reports[unit] = UnitReport.RETRY
                snapshot = self._execution.snapshots[self._execution.units[unit].snapshot]
                self._retry_waits[unit] = snapshot.retry_backoff_seconds
            case Status.SCHEDULED:
                self._reports[unit] = UnitReport.TROUBLE
                self._trouble = finish.error_message
            case _:
                self._reports[unit] = UnitReport.FAILED

    def _lost(self, unit: int, error: RefusedError) -> None:
        self._reports[unit] = UnitReport.TROUBLE
        self._trouble = str(error)

    @asynccontextmanager
    async def _handing_back(self) -> AsyncIterator[None]:
        """Hands back what has not been started, and reports what is done, if the body takes long."""

        async def hand_back() -> None:
            left = _BUNDLE_SECONDS - (monotonic() - self._since) if self._pending else _LONG_SECONDS
            await asyncio.sleep(min(left, _LONG_SECONDS))
            self._pending.clear()
            letters = "".join(self._reports.values())
            try:
                await self._report(letters, dict(self._retry_waits))
            except (httpx.HTTPError, RefusedError) as error:
                # It is told at the end of the bundle, then.
                reason = str(error) or type(error).__name__
                _log.warning("progress_not_reported", execution_id=self._execution.execution_id, reason=reason)

        if len(self._reports) == 1:
            yield
            return
        task = asyncio.create_task(hand_back())
        try:
            yield
        finally:
            task.cancel()
