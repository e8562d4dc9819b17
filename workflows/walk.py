"""The walk of a unit DAG, shared by plans and runs: what may start, what is skipped, what is left.

`UnitWalk` is the bookkeeping, plain data without Temporal; `walk_units` drives it with activities.
The semantics are those of SQLMesh's `concurrent_apply_to_dag(raise_on_error=False)`: a failed unit takes
everything downstream of it along, and everything else goes on.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from heapq import heapify, heappop, heappush

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows.interfaces import ExecutorActivities, ExecutorQueue
from workflows.payloads import UnitGraph, UnitRef, UnitResult, UnitState, Walk
from workflows.policies import EVALUATION

__all__ = ["DUMMY", "UnitWalk", "walk_units"]

DUMMY = "d"
"""The kind of a unit that only orders others."""
_MAX_SEGMENT = 25
"""Units that one activity takes on: a crash in its last one asks the server about the others once more."""

_MAX_IN_FLIGHT = 500
"""Temporal allows 2,000 pending activities a workflow; executors decide how many really run."""

_CLAIM_WAITS = (timedelta(seconds=1), timedelta(seconds=2), timedelta(seconds=5))
"""How long a unit waits before it asks again for a physical table that another plan or run holds."""


class UnitWalk:
    """Which units of a DAG are ready, given how the others ended.

    Args:
        graph: The DAG, numbered in topological order.
        states: How far an earlier part of the walk came, one `UnitState` letter a unit; empty at the start.
    """

    def __init__(self, graph: UnitGraph, states: str = ""):
        count = len(graph.kinds)
        self._graph = graph
        self._states = [UnitState(letter) for letter in states] or [UnitState.WAITING] * count
        self._dependents: list[list[int]] = [[] for _ in range(count)]
        self._missing = [0] * count
        for number, dependencies in enumerate(graph.dependencies):
            self._missing[number] = sum(self._states[d] is not UnitState.DONE for d in dependencies)
            for dependency in dependencies:
                self._dependents[dependency].append(number)
        self._ready = [n for n in range(count) if self._is_ready(n)]
        heapify(self._ready)

    @property
    def states(self) -> str:
        """One `UnitState` letter a unit."""
        return "".join(self._states)

    def take(self) -> list[int]:
        """Takes the next segment of units to evaluate, empty if none is ready.

        A segment is one unit, or a chain in which each unit waits only for the one before it and is the only one
        to wait for it: nothing could run beside it anyway, so one activity serves it all.
        """
        while self._ready:
            number = heappop(self._ready)
            if self._graph.kinds[number] == DUMMY:
                self.done(number)
                continue
            return [number, *self._chain_after(number)]
        return []

    def done(self, number: int) -> None:
        """Marks a unit as done; units that waited only for it become ready."""
        self._states[number] = UnitState.DONE
        for dependent in self._dependents[number]:
            self._missing[dependent] -= 1
            if self._is_ready(dependent):
                heappush(self._ready, dependent)

    def failed(self, number: int) -> None:
        """Marks a unit as failed and everything downstream of it as skipped."""
        self._states[number] = UnitState.FAILED
        self._skip_dependents(number)

    def skipped(self, number: int) -> None:
        """Marks a unit and everything downstream of it as skipped."""
        self._states[number] = UnitState.SKIPPED
        self._skip_dependents(number)

    def _skip_dependents(self, number: int) -> None:
        pending = list(self._dependents[number])
        while pending:
            dependent = pending.pop()
            if self._states[dependent] is UnitState.WAITING:
                self._states[dependent] = UnitState.SKIPPED
                pending.extend(self._dependents[dependent])

    def finish_segment(self, segment: list[int], result: UnitResult) -> None:
        """Books the outcome of a segment: its first units are done, and the next one may have failed or been left out.

        Units of the segment after those return to waiting, and to the ready ones where their turn has come.
        """
        for number in segment[: result.finished]:
            self._complete_in_segment(number, segment)
        rest = segment[result.finished :]
        if rest and result.error is not None:
            self.failed(rest[0])
        elif rest and result.skipped is not None:
            self.skipped(rest[0])
        elif rest:
            heappush(self._ready, rest[0])

    def _complete_in_segment(self, number: int, segment: list[int]) -> None:
        self._states[number] = UnitState.DONE
        for dependent in self._dependents[number]:
            self._missing[dependent] -= 1
            if dependent not in segment and self._is_ready(dependent):
                heappush(self._ready, dependent)

    def _is_ready(self, number: int) -> bool:
        return self._missing[number] == 0 and self._states[number] is UnitState.WAITING

    def _chain_after(self, number: int) -> Iterator[int]:
        for _ in range(_MAX_SEGMENT - 1):
            dependents = self._dependents[number]
            if len(dependents) != 1 or len(self._graph.dependencies[dependents[0]]) != 1:
                return
            number = dependents[0]
            if self._graph.kinds[number] == DUMMY:
                return
            yield number


@dataclass
class _Segment:
    units: list[int]
    result: UnitResult


async def walk_units(walk: Walk, environment: str, queue: ExecutorQueue) -> Walk:
    """Evaluates the units of an execution on a task queue, in DAG order, until none is left.

    Returns early, with nothing in flight, when Temporal suggests to continue as new: the result is then not
    `finished` and is what the next incarnation starts with.

    Raises:
        asyncio.CancelledError: If the workflow was cancelled; everything in flight has been cancelled too.
    """
    units = UnitWalk(walk.graph, walk.states)
    in_flight: set[asyncio.Task[_Segment]] = set()
    ended: asyncio.Queue[asyncio.Task[_Segment]] = asyncio.Queue()
    stopped = walk.stopped
    try:
        while True:
            drain = stopped or workflow.info().is_continue_as_new_suggested()
            while not drain and len(in_flight) < _MAX_IN_FLIGHT and (segment := units.take()):
                task = asyncio.create_task(_evaluate(walk.graph.execution_id, environment, queue, segment))
                task.add_done_callback(ended.put_nowait)
                in_flight.add(task)
            if not in_flight:
                break
            task = await ended.get()
            in_flight.remove(task)
            outcome = task.result()
            stopped = stopped or outcome.result.stopped
            units.finish_segment(outcome.units, outcome.result)
    finally:
        for task in in_flight:
            task.cancel()
    return Walk(graph=walk.graph, states=units.states, stopped=stopped)


async def _evaluate(execution_id: str, environment: str, queue: ExecutorQueue, segment: list[int]) -> _Segment:
    done = 0
    refusals = 0
    while True:
        try:
            result = await workflow.execute_activity_method(
                ExecutorActivities.evaluate,
                UnitRef(execution_id=execution_id, environment=environment, units=segment[done:]),
                task_queue=queue,
                **EVALUATION,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            result = UnitResult(error=str(error.cause or error))
        done += result.finished
        if result.claimed_by is None:
            return _Segment(segment, result.model_copy(update={"finished": done}))
        await workflow.sleep(_CLAIM_WAITS[min(refusals, len(_CLAIM_WAITS) - 1)])
        refusals += 1
