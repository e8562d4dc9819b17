"""Drives the walk of a unit DAG with activities of executors; shared by plans and runs."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutError,  # noqa: A004 - Temporal's, not Python's
    TimeoutType,
    is_cancelled_exception,
)

from workflows.interfaces import ExecutorActivities, ExecutorQueue, queue_of
from workflows.payloads import UnitGraph, UnitProgress, UnitRef, UnitReport, UnitResult, Walk
from workflows.policies import EVALUATION
from workflows.walk import UnitWalk

__all__ = ["UnitDispatch"]

_MAX_IN_FLIGHT = 500
"""Temporal allows 2,000 pending activities a workflow; executors decide how many really run."""

_QUICK_IN_FLIGHT = 16
_QUICK = timedelta(seconds=1)
"""While units take no time, only so many bundles younger than this are in flight: what gets ready meanwhile makes the
next bundles larger, where it would have been an activity a unit. Where units take long, nothing is held back."""

_CLAIM_WAITS = (timedelta(seconds=1), timedelta(seconds=2), timedelta(seconds=5))
"""How long a unit waits before it asks again for a physical table that another plan or run holds."""

_TROUBLE_WAITS = tuple(timedelta(seconds=seconds) for seconds in (1, 2, 5, 10, 30, 60))
_MAX_TROUBLES = 20
"""After so many troubles of the infrastructure, about a quarter of an hour of them, a unit fails."""

_SAID_ONCE = "what-a-bundle-says-of-a-unit-is-booked-once"
"""The patch that keeps what a long unit has handed back from being given out again when its bundle ends."""

_FEW_IN_FLIGHT = "few-quick-bundles-are-in-flight"
"""The patch that holds ready units back while many quick bundles are in flight."""

_DRAIN_PATIENCE = timedelta(seconds=10)
_DRAIN_AGAIN_EVENTS = 4_000
_MAX_EVENTS = 40_000
"""Temporal ends a workflow at about 50,000 events."""


class UnitDispatch:
    """Hands bundles of ready units to the executors of a kind that have their gateway, until none is left.

    A bundle is not repeated by Temporal but given out again from here: only what is left of it, and each unit that was
    in trouble by itself, so that one that kills its executor takes no other along.

    Args:
        environment: The environment that is planned or run.
        queue: Which executors evaluate.
    """

    def __init__(self, environment: str, queue: ExecutorQueue):
        self._environment = environment
        self._queue = queue
        self._walk = Walk(graph=UnitGraph())
        self._units: UnitWalk | None = None
        self._bundles: dict[int, list[int]] = {}
        self._handed_out: dict[int, float] = {}
        """When each bundle in flight was, in seconds of the workflow's clock."""
        self._number = 0
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._waits: dict[asyncio.Task[None], None] = {}
        """Not a set: its order would not be the same in a replay."""
        self._ended: list[asyncio.Task[None]] = []
        self._is_stopped = False
        self._is_preempted = False
        self._drain_from = 0
        self._drain_timer: asyncio.Task[None] | None = None
        self._hold_timer: asyncio.Task[None] | None = None
        self._refusals: Counter[int] = Counter()
        self._refused: set[int] = set()
        """Units that wait for a physical table."""
        self._asking: set[int] = set()
        """Those of them that wait no longer."""
        self._troubles: Counter[int] = Counter()
        self._retried: Counter[int] = Counter()
        self._errors: dict[int, str] = {}
        self._paused: str | None = None
        self._told: dict[int, str] = {}
        """What bundles in flight have said of their units."""

    def progress(self, progress: UnitProgress) -> None:
        """Takes what an activity says in the middle of its bundle; to be called by the workflow's signal."""
        bundle = self._bundles.get(progress.bundle)
        if bundle is not None:
            self._told[progress.bundle] = progress.reports
            self._book(bundle, UnitResult(reports=progress.reports, retry_waits=progress.retry_waits))
            self._hand_out()

    def ask_again(self) -> None:
        """Lets units ask now for the tables that they wait for; to be called by the workflow's signal."""
        self._asking |= self._refused

    async def run(self, walk: Walk) -> Walk:
        """Evaluates the units of an execution in DAG order.

        Returns early, with nothing in flight, when Temporal suggests to continue as new: the result is then not
        `finished` and is what the next incarnation starts with.

        Raises:
            asyncio.CancelledError: If the workflow was cancelled; everything in flight has been cancelled too.
        """
        self._walk = walk
        self._units = UnitWalk(walk.graph, walk.states)
        self._is_stopped = walk.stopped
        self._is_preempted = walk.preempted
        self._errors = dict(walk.errors)
        self._paused = walk.paused
        self._retried = Counter(walk.retried)
        try:
            self._hand_out()
            while self._tasks or self._waits:
                await workflow.wait_condition(lambda: bool(self._ended) or not (self._tasks or self._waits))
                while self._ended:
                    self._ended.pop().result()
                self._hand_out()
                self._drain()
        finally:
            for task in (*self._tasks.values(), *self._waits, *filter(None, [self._drain_timer, self._hold_timer])):
                task.cancel()
        return Walk(
            graph=walk.graph,
            states=self._units.states,
            stopped=self._is_stopped,
            errors=self._errors,
            retried=dict(self._retried),
            preempted=self._is_preempted,
            paused=self._paused,
        )

    @property
    def _is_draining(self) -> bool:
        info = workflow.info()
        is_due = info.is_continue_as_new_suggested() and info.get_current_history_length() >= self._drain_from
        return self._is_stopped or is_due

    def _drain(self) -> None:
        """Waits no longer for claims, and for what is in flight only a while: one long unit holds nobody up."""
        if not self._is_draining:
            return
        for wait in self._waits:
            wait.cancel()
        if self._drain_timer is None and not self._is_stopped:
            self._drain_timer = asyncio.create_task(self._give_up_draining())

    async def _give_up_draining(self) -> None:
        await workflow.sleep(_DRAIN_PATIENCE)
        self._drain_timer = None
        self._drain_from = min(workflow.info().get_current_history_length() + _DRAIN_AGAIN_EVENTS, _MAX_EVENTS)
        self._hand_out()

    def _hand_out(self) -> None:
        assert self._units is not None  # noqa: S101 - `run` sets it before anything is in flight
        while not self._is_draining and self._has_room(self._units) and (bundle := self._units.take()):
            self._number += 1
            self._bundles[self._number] = bundle
            self._handed_out[self._number] = workflow.time()
            task = asyncio.create_task(self._evaluate(self._number, bundle))
            self._tasks[self._number] = task
            task.add_done_callback(self._ended.append)

    def _has_room(self, units: UnitWalk) -> bool:
        if len(self._tasks) >= _MAX_IN_FLIGHT:
            return False
        if not units.is_quick or not units.has_ready:
            return True
        since = workflow.time() - _QUICK.total_seconds()
        quick = sum(handed_out > since for handed_out in self._handed_out.values())
        if quick < _QUICK_IN_FLIGHT or not workflow.patched(_FEW_IN_FLIGHT):
            return True
        if self._hold_timer is None:
            self._hold_timer = asyncio.create_task(workflow.sleep(_QUICK))
            self._hold_timer.add_done_callback(self._end_hold)
        return False

    def _end_hold(self, task: asyncio.Task[None]) -> None:
        self._hold_timer = None
        if not task.cancelled():
            self._ended.append(task)

    async def _evaluate(self, number: int, bundle: list[int]) -> None:
        assert self._units is not None  # noqa: S101 - `run` sets it before anything is in flight
        try:
            result = await workflow.execute_activity_method(
                ExecutorActivities.evaluate,
                UnitRef(
                    execution_id=self._walk.graph.execution_id,
                    environment=self._environment,
                    bundle=number,
                    units=bundle,
                    retried={unit: self._retried[unit] for unit in bundle if self._retried[unit]},
                ),
                task_queue=queue_of(self._queue, self._units.gateway(bundle[0])),
                **EVALUATION,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            result = _lost(bundle, error)
        finally:
            del self._bundles[number], self._handed_out[number], self._tasks[number]
        self._is_stopped = self._is_stopped or result.stopped
        self._paused = result.paused or self._paused
        told = self._told.pop(number, None)
        if told is not None and workflow.patched(_SAID_ONCE):
            result = result.model_copy(update={"reports": _news(result.reports, told)})
        self._book(bundle, result)

    def _book(self, bundle: list[int], result: UnitResult) -> None:
        reports, trouble = result.reports, result.trouble
        assert self._units is not None  # noqa: S101 - `run` sets it before anything is in flight
        if trouble is not None and reports == UnitReport.FAILED:
            self._errors[bundle[0]] = trouble
        self._is_preempted = self._is_preempted or UnitReport.PREEMPTED in reports
        letters = dict(zip(bundle, reports, strict=True))
        for unit in self._units.book(bundle, reports):
            if letters[unit] == UnitReport.CLAIMED:
                self._refusals[unit] += 1
                self._refused.add(unit)
                self._release_later(unit, _CLAIM_WAITS[min(self._refusals[unit], len(_CLAIM_WAITS)) - 1])
                continue
            if letters[unit] == UnitReport.RETRY:
                self._retried[unit] += 1
                self._release_later(unit, timedelta(seconds=result.retry_waits.get(unit, 0)))
                continue
            self._troubles[unit] += 1
            if self._troubles[unit] >= _MAX_TROUBLES:
                self._errors[unit] = trouble or "no executor could finish it"
                self._units.fail(unit)
            else:
                self._release_later(unit, _TROUBLE_WAITS[min(self._troubles[unit], len(_TROUBLE_WAITS)) - 1])

    def _release_later(self, unit: int, wait: timedelta) -> None:
        async def release() -> None:
            assert self._units is not None  # noqa: S101 - `run` sets it before anything is in flight
            try:
                with suppress(asyncio.TimeoutError):
                    await workflow.wait_condition(lambda: unit in self._asking, timeout=wait)
            finally:
                self._refused.discard(unit)
                self._asking.discard(unit)
                self._units.release(unit)

        task = asyncio.create_task(release())
        self._waits[task] = None
        task.add_done_callback(self._end_wait)

    def _end_wait(self, task: asyncio.Task[None]) -> None:
        del self._waits[task]
        if not task.cancelled():
            self._ended.append(task)


def _news(reports: str, told: str) -> str:
    """Reports without those of units of which the bundle had said in its middle what became of them.

    They are booked, and what came of them since, maybe in another bundle that is in flight, is that one's to say.
    """
    running = UnitReport.RUNNING.value
    return "".join(letter if earlier == running else running for letter, earlier in zip(reports, told, strict=True))


def _lost(bundle: list[int], error: ActivityError) -> UnitResult:
    """What to make of a bundle whose activity failed as a whole: its executor was lost, or the server refused it."""
    cause = error.cause or error
    if isinstance(cause, ApplicationError) and cause.non_retryable and len(bundle) == 1:
        return UnitResult(reports=UnitReport.FAILED, trouble=str(cause))
    was_lost = isinstance(cause, TimeoutError) and cause.type is TimeoutType.HEARTBEAT
    trouble = "its executor was lost: Temporal heard no more of it" if was_lost else str(cause)
    return UnitResult(reports=UnitReport.TROUBLE * len(bundle), trouble=trouble)
