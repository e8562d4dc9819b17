"""What the schedule of an environment's models is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleState,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from activities.crons import schedule_spec
from tcloud.wire.environments import CronGroup
from workflows.attributes import ENVIRONMENT, KIND, TRIGGER
from workflows.interfaces import CONTROL_QUEUE
from workflows.payloads import RunInput
from workflows.run import RunWorkflow

__all__ = ["Definition", "environment_of"]

_ROOT = "schedule/"
_CATCH_UP_WINDOW = timedelta(minutes=1)
"""Temporal's default is a year. A run evaluates whatever is due, so that one tick is as good as all: what is missed for
longer is made up for by maintenance, with one run for each environment."""

_NAMED_IN_NOTE = 10
_NAMED_IN_MEMO = 200
_NAMED_IN_DETAILS = 50


@dataclass(frozen=True)
class Definition:
    """The schedule of an environment's models with one cron and timezone."""

    environment: str
    group: CronGroup

    @property
    def schedule_id(self) -> str:
        """Readable, and the same whoever asks."""
        cron, timezone = quote(self.group.cron, safe="*@"), quote(self.group.timezone, safe="")
        return f"{_ROOT}{self.environment}/{cron}/{timezone}"

    @property
    def memo(self) -> dict[str, object]:
        """Of the schedule itself: what never changes, because Temporal's client can change no memo."""
        return {"environment": self.environment, "cron": self.group.cron, "timezone": self.group.timezone}

    @property
    def search_attributes(self) -> TypedSearchAttributes:
        """By which the schedule is found."""
        return TypedSearchAttributes([SearchAttributePair(ENVIRONMENT, self.environment)])

    def schedule(self, *, is_paused: bool = False) -> Schedule:
        """The schedule as it should be.

        Args:
            is_paused: Somebody's decision that is kept.

        Raises:
            CronNotTranslatableError: If the cron or its timezone is not valid.
        """
        return Schedule(
            action=self._action(),
            spec=schedule_spec(self.group.cron, self.group.timezone),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL, catchup_window=_CATCH_UP_WINDOW),
            state=ScheduleState(note=self.note, paused=is_paused),
        )

    @property
    def note(self) -> str:
        """What Temporal's Web UI shows beside the schedule."""
        return f"{self._what}: {_named(self.group.models, _NAMED_IN_NOTE)}"

    @property
    def _what(self) -> str:
        count = len(self.group.models)
        return (
            f"{count} model{'' if count == 1 else 's'} of {self.environment} at {self.group.cron} "
            f"({self.group.timezone})"
        )

    def _action(self) -> ScheduleActionStartWorkflow:
        models = "\n".join(f"* `{model}`" for model in self.group.models[:_NAMED_IN_DETAILS])
        more = len(self.group.models) - _NAMED_IN_DETAILS
        return ScheduleActionStartWorkflow(
            RunWorkflow.run,
            RunInput(environment=self.environment),
            # All schedules of an environment have the same: crons that tick at the same moment are one run.
            id=f"run/{self.environment}",
            task_queue=CONTROL_QUEUE,
            memo={**self.memo, "models": self.group.models[:_NAMED_IN_MEMO]},
            typed_search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(KIND, "run"),
                    SearchAttributePair(ENVIRONMENT, self.environment),
                    SearchAttributePair(TRIGGER, "schedule"),
                ]
            ),
            static_summary=f"Run of {self.environment}, woken by {self.group.cron} ({self.group.timezone})",
            static_details=f"Evaluates all that is due in `{self.environment}`. The schedule that woke it is of\n\n"
            f"{models}{f' and {more} more' if more > 0 else ''}",
        )


def environment_of(schedule_id: str) -> str | None:
    """The environment that a schedule is of; None for any other schedule."""
    if not schedule_id.startswith(_ROOT):
        return None
    return schedule_id.removeprefix(_ROOT).partition("/")[0]


def _named(models: Sequence[str], most: int) -> str:
    more = len(models) - most
    return ", ".join(models[:most]) + (f" and {more} more" if more > 0 else "")
