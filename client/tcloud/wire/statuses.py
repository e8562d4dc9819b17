"""The seven states that a plan, a run and an evaluation share."""

from enum import StrEnum

__all__ = ["Status"]


class Status(StrEnum):
    """State of a plan, a run or an evaluation; the spelling is part of the public contract."""

    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    SKIPPED = "skipped"
    SUCCESS = "success"
    FAILED = "failed"
    PREEMPTED = "preempted"
    ABORTED = "aborted"

    @property
    def is_final(self) -> bool:
        """Whether no further change of state is possible."""
        return self not in (Status.SCHEDULED, Status.IN_PROGRESS)
