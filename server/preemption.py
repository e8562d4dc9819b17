"""Runs whose environment a plan has changed: what it replaced is not started any more.

Work in flight finishes, what the plan left alone goes on, and the run's workflow then prepares what is new.
"""

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock

from sqlalchemy import update

from server.database import Transaction
from server.schema import runs
from tcloud.wire.statuses import Status

__all__ = ["PromotedSnapshots", "preempt_runs"]

_KEPT = 64


class PromotedSnapshots:
    """The snapshots of environments, as each plan left them; kept while they are asked for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], Mapping[str, str]] = OrderedDict()
        self._lock = Lock()

    def after(self, transaction: Transaction, environment: str, plan_id: str) -> Mapping[str, str]:
        """Identifiers by name, of an environment's snapshots after a plan, or a later one, has changed it."""
        key = (transaction.project.namespace, environment, plan_id)
        with self._lock:
            promoted = self._kept.get(key)
        if promoted is None:
            found = transaction.state.get_environment(environment)
            promoted = {s.name: s.identifier for s in found.snapshots} if found else {}
            with self._lock:
                self._kept[key] = promoted
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return promoted


def preempt_runs(transaction: Transaction, environment: str, plan_id: str) -> None:
    """Tells the runs of an environment that a plan has changed it."""
    transaction.connection.execute(
        update(runs)
        .where(
            runs.c.project == transaction.project.namespace,
            runs.c.environment == environment,
            runs.c.status.in_([Status.SCHEDULED.value, Status.IN_PROGRESS.value]),
        )
        .values(preempted_by=plan_id)
    )
