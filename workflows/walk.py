"""The walk of a unit DAG: what may start, what is skipped, what is left. Plain data, without Temporal.

The semantics are those of SQLMesh's `concurrent_apply_to_dag(raise_on_error=False)`: a failed unit takes
everything downstream of it along, and everything else goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from workflows.payloads import UnitGraph, UnitReport, UnitState

__all__ = ["DUMMY", "UnitWalk"]

DUMMY = "d"
"""The kind of a unit that only orders others."""

_MAX_BUNDLE = 25
"""Units that one activity takes on: a crash in its last one asks the server about the others once more."""

_SLOWED = 4
"""How much smaller bundles get when one was handed back: one slow start among many does not yet make all units slow."""

_FORKS = 8
"""The largest bundles go on over a fork into as many branches as this goes into their size."""

_SHARES = 16
"""A bundle is at most this part of what is ready, so that every slot of every executor gets its share, and the last
bundles are small. It is what parallel loops call guided self-scheduling."""


@dataclass
class _Group:
    """Units of one model that are not to be evaluated all at a time."""

    at_once: int
    out: int = 0
    held: list[int] = field(default_factory=list)
    """Ready units whose turn has not come, as a heap."""

    @property
    def is_full(self) -> bool:
        return self.out >= self.at_once


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
        self._out: set[int] = set()
        self._alone: set[int] = set()
        self._group_of: dict[int, _Group] = {}
        for limited in graph.limited:
            self._group_of |= dict.fromkeys(limited.units, _Group(limited.at_once))
        self._gateway_of = {unit: gateway for gateway, units in graph.gateways.items() for unit in units}
        self._limit = _MAX_BUNDLE
        self._ready = [n for n in range(count) if self._is_ready(n)]
        heapify(self._ready)

    @property
    def states(self) -> str:
        """One `UnitState` letter a unit."""
        return "".join(self._states)

    @property
    def is_quick(self) -> bool:
        """Whether the units seen so far are such that several make a bundle."""
        return self._limit > 1

    @property
    def has_ready(self) -> bool:
        """Whether `take` may find a unit."""
        return bool(self._ready)

    def gateway(self, number: int) -> str | None:
        """Where a unit is evaluated; None if any executor may."""
        return self._gateway_of.get(number, self._graph.gateway)

    def take(self) -> list[int]:
        """Takes the next bundle of units to evaluate, empty if none is ready.

        A bundle is a share of the ready units, each followed by those that wait only for units of the bundle. An
        evaluation costs a fraction of an activity; where units turn out to take long, bundles get as small as one, or
        as a chain, beside which nothing could run anyway.

        A unit of a model whose evaluations have a limit is a bundle of its own, and waits here for its turn: an
        executor could only ask the server for it again and again. All units of a bundle are of one gateway.
        """
        bundle: list[int] = []
        elsewhere: list[int] = []
        wanted = self._share()
        while self._ready and wanted > 0 and len(bundle) < _MAX_BUNDLE:
            number = heappop(self._ready)
            if not self._is_ready(number):
                continue
            if self._graph.kinds[number] == DUMMY:
                self._done(number)
                continue
            group = self._group_of.get(number)
            if group is not None and group.is_full:
                heappush(group.held, number)
                continue
            if group is not None or number in self._alone:
                if bundle:
                    heappush(self._ready, number)
                    break
                self._go(number)
                bundle = [number]
                break
            if bundle and self.gateway(number) != self.gateway(bundle[0]):
                elsewhere.append(number)
                continue
            bundle.append(number)
            self._go(number)
            self._take_what_follows(bundle, number)
            wanted -= 1
        for number in elsewhere:
            heappush(self._ready, number)
        return bundle

    def book(self, bundle: Sequence[int], reports: str) -> list[int]:
        """Books what an activity says of its bundle, and returns the units that it could not evaluate for now.

        Those (claimed by others, hit by trouble, or to be tried again) are the caller's to `release` after a wait.
        Units that have ended stay as they are, so a report may come more than once; of others, what a report says is
        news only once.
        """
        postponed = []
        returned = False
        for number, letter in zip(bundle, reports, strict=True):
            report = UnitReport(letter)
            if number not in self._out or report is UnitReport.RUNNING:
                continue
            match report:
                case UnitReport.DONE:
                    self._done(number)
                case UnitReport.FAILED:
                    self.fail(number)
                case UnitReport.SKIPPED | UnitReport.PREEMPTED:
                    self._leave(number)
                    self._states[number] = UnitState.SKIPPED
                    self._skip_dependents(number)
                case UnitReport.CLAIMED | UnitReport.TROUBLE | UnitReport.RETRY:
                    postponed.append(number)
                case UnitReport.RETURNED:
                    returned = returned or self._missing[number] == 0
                    self._release(number)
        done = reports.count(UnitReport.DONE)
        if returned:
            self._limit = max(1, done, self._limit // _SLOWED)
        elif done == len(bundle):
            self._limit = min(_MAX_BUNDLE, 2 * self._limit)
        return [number for number in postponed if self._states[number] is UnitState.WAITING]

    def release(self, number: int) -> None:
        """Lets a unit that was postponed be taken again, in a bundle of its own."""
        self._alone.add(number)
        self._release(number)

    def fail(self, number: int) -> None:
        """Marks a unit as failed and everything downstream of it as skipped."""
        self._leave(number)
        self._states[number] = UnitState.FAILED
        self._skip_dependents(number)

    def _go(self, number: int) -> None:
        self._out.add(number)
        if (group := self._group_of.get(number)) is not None:
            group.out += 1

    def _leave(self, number: int) -> None:
        group = self._group_of.get(number)
        if group is not None and number in self._out:
            group.out -= 1
            if group.held:
                # What is held is ready: all that it waits for was done, and nothing but its own turn can end it.
                heappush(self._ready, heappop(group.held))
        self._out.discard(number)

    def _share(self) -> int:
        return min(self._limit, -(-len(self._ready) // _SHARES))

    def _done(self, number: int) -> None:
        self._leave(number)
        self._states[number] = UnitState.DONE
        for dependent in self._dependents[number]:
            self._missing[dependent] -= 1
            if self._is_ready(dependent):
                heappush(self._ready, dependent)

    def _release(self, number: int) -> None:
        self._leave(number)
        if self._is_ready(number):
            heappush(self._ready, number)

    def _skip_dependents(self, number: int) -> None:
        pending = list(self._dependents[number])
        while pending:
            dependent = pending.pop()
            if self._states[dependent] is UnitState.WAITING:
                self._leave(dependent)
                self._states[dependent] = UnitState.SKIPPED
                pending.extend(self._dependents[dependent])

    def _is_ready(self, number: int) -> bool:
        return self._missing[number] == 0 and self._is_free(number)

    def _take_what_follows(self, bundle: list[int], number: int) -> None:
        """Appends what waits only for units of the bundle, now that `number` has joined it.

        It ends where the graph widens, because what comes after may run side by side; while units take next to no
        time, only where it widens much.
        """
        joined = [number]
        while joined:
            following = {d: None for unit in joined for d in self._dependents[unit] if self._waits_only_for(bundle, d)}
            widest = max(len(joined) if self.is_quick else 1, self._limit // _FORKS)
            if len(following) > widest or len(bundle) + len(following) > _MAX_BUNDLE:
                return
            bundle += following
            for unit in following:
                self._go(unit)
            joined = list(following)

    def _waits_only_for(self, bundle: list[int], number: int) -> bool:
        if not self._missing[number] or not self._is_free(number):
            return False
        if number in self._alone or number in self._group_of or self._graph.kinds[number] == DUMMY:
            return False
        if self.gateway(number) != self.gateway(bundle[0]):
            return False
        return self._missing[number] == sum(d in bundle for d in self._graph.dependencies[number])

    def _is_free(self, number: int) -> bool:
        return self._states[number] is UnitState.WAITING and number not in self._out
