"""Showing on SQLMesh's own console what executors do for a plan or a run."""

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from sqlmesh.core.console import Console
from sqlmesh.core.snapshot import Snapshot, SnapshotId
from sqlmesh.core.state_sync import StateReader

from tcloud.api.client import Api
from tcloud.api.events import End, StreamEvent
from tcloud.errors import Detached
from tcloud.wire.plans import Plan
from tcloud.wire.statuses import Status
from tempomesh_runner.console import Resolver, replay

__all__ = ["SnapshotResolver", "detachable", "show_events", "wait_for_turn"]

_POLL_SECONDS = 1.0
_DISPLAYS = ("evaluation_progress_live", "creation_progress", "promotion_progress")


class SnapshotResolver:
    """Finds the snapshots that console events speak of; reads them from state when the first one is not at hand.

    Args:
        state_reader: The project's state.
        expected: The snapshots that will be asked for, to be read in one call.
        known: Snapshots that are at hand.
    """

    def __init__(
        self, state_reader: StateReader, expected: Collection[SnapshotId] = (), known: Iterable[Snapshot] = ()
    ):
        self._state_reader = state_reader
        self._expected = set(expected)
        self._snapshots = {s.snapshot_id: s for s in known}

    def __call__(self, name: str, identifier: str) -> Snapshot:
        """The snapshot.

        Raises:
            KeyError: If it is not in state any more.
        """
        snapshot_id = SnapshotId(name=name, identifier=identifier)
        if snapshot_id not in self._snapshots:
            missing = (self._expected | {snapshot_id}) - self._snapshots.keys()
            self._snapshots.update(self._state_reader.get_snapshots(missing))
            self._expected.clear()
        return self._snapshots[snapshot_id]


def wait_for_turn(api: Api, plan: Plan, console: Console) -> None:
    """Says which place in its environment's queue a plan has, until it is the first."""
    if plan.queue_position is None and plan.status is Status.SCHEDULED:
        console.log_status_update("Waiting for the control worker (`tcloud worker`): none has taken up the plan yet.")
    shown: int | None = None
    while plan.queue_position and not plan.status.is_final:
        if plan.queue_position != shown:
            ahead = "1 plan is" if plan.queue_position == 1 else f"{plan.queue_position} plans are"
            console.log_status_update(f"Waiting: {ahead} ahead of this one in environment '{plan.environment}'.")
            shown = plan.queue_position
        time.sleep(_POLL_SECONDS)
        plan = api.plan(plan.plan_id)


def show_events(events: Iterable[StreamEvent], console: Console, resolver: Resolver) -> End:
    """Repeats console events as they come.

    Returns:
        How it ended.
    """
    for event in events:
        if isinstance(event, End):
            return event
        replay(event.model_dump(), console, resolver)
    raise AssertionError("a stream of events ends with `End`")


@contextmanager
def detachable(console: Console, what: str, command: str, identity: str) -> Iterator[None]:
    """Lets Ctrl-C end the watching and nothing else.

    Args:
        console: Where progress is shown.
        what: What is watched, to be named to the person.
        command: The group of `tcloud` that can attach to it again or cancel it.
        identity: Its id.

    Raises:
        Detached: On Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        for display in (getattr(console, name, None) for name in _DISPLAYS):
            if display is not None:
                display.stop()
        console.log_status_update(
            f"\n{what} goes on without you. Watch it again with `tcloud {command} attach {identity}`, "
            f"stop it with `tcloud {command} cancel {identity}`."
        )
        raise Detached from interrupt
