"""Which environments are scheduled, and so which Temporal schedules there should be: decided here and nowhere else."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from server.database import Transaction
from server.schema import scheduled_environments

__all__ = ["Decisions", "Scheduled", "ScheduledEnvironments"]


@dataclass(frozen=True)
class Scheduled:
    """Whether an environment's models run by themselves, and who says so."""

    is_scheduled: bool
    decided_by: str | None = None
    """None where the server's settings decide."""
    decided_at: datetime | None = None


class ScheduledEnvironments:
    """Somebody's decision for an environment, or else the server's settings.

    Args:
        by_default: Environments that are scheduled as long as nobody has decided otherwise.
    """

    def __init__(self, by_default: Iterable[str]):
        self._by_default = frozenset(by_default)

    def of_all(self, transaction: Transaction) -> "Decisions":
        """What holds for the environments of a project."""
        table = scheduled_environments
        rows = transaction.connection.execute(select(table).where(table.c.project == transaction.project.namespace))
        return Decisions(
            self._by_default,
            {row.environment: Scheduled(row.is_scheduled, row.decided_by, row.decided_at) for row in rows},
        )

    def decide(self, transaction: Transaction, environment: str, *, is_scheduled: bool, by: str) -> None:
        """Records a decision; one that is the same as before keeps its author and time."""
        table = scheduled_environments
        decision = {"is_scheduled": is_scheduled, "decided_by": by}
        transaction.connection.execute(
            insert(table)
            .values(project=transaction.project.namespace, environment=environment, **decision)
            .on_conflict_do_update(
                index_elements=["project", "environment"],
                set_={**decision, "decided_at": func.now()},
                where=table.c.is_scheduled != is_scheduled,
            )
        )

    def forget_others(self, transaction: Transaction, existing: Iterable[str]) -> None:
        """Removes decisions about environments that exist no longer: a new one of that name starts afresh."""
        table = scheduled_environments
        transaction.connection.execute(
            delete(table).where(
                table.c.project == transaction.project.namespace, table.c.environment.not_in(list(existing))
            )
        )


class Decisions:
    """What holds for the environments of one project."""

    def __init__(self, by_default: frozenset[str], decided: dict[str, Scheduled]):
        self._by_default = by_default
        self._decided = decided

    def __getitem__(self, environment: str) -> Scheduled:
        return self._decided.get(environment) or Scheduled(environment in self._by_default)
