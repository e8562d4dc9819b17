"""What the schedule of an environment's models is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleListState,
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

__all__ = ["Definition", "environment_of", "is_paused_by_hand"]

_ROOT = "schedule/"
_CATCH_UP_WINDOW = timedelta(minutes=1)
"""Temporal's default is a year. A run evaluates whatever is due, so that one tick is as good as all: what is missed for
longer is made up for by maintenance, with one run for each environment."""

_BY_ENVIRONMENT = "The environment is "
_BY_HAND_TOO = "Paused in Temporal, and the environment is "
_NAMED_IN_NOTE = 10
_NAMED_IN_MEMO = 200
_NAMED_IN_DETAILS = 50


@dataclass(frozen=True)
class Definition:
    """The schedule of an environment's models with one cron and timezone."""

    environment: str
    group: CronGroup
    pause: str | None = None
    """Why the environment is paused, if it is."""
    resumed_at: datetime | None = None
    """When it was last resumed, if it has been paused."""

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

    def schedule(self, found: ScheduleState | ScheduleListState | None = None) -> Schedule:
        """The schedule as it should be: paused if its environment is, or if somebody has done so in Temporal.

        Args:
            found: How it stands now.

        Raises:
            CronNotTranslatableError: If the cron or its timezone is not valid.
        """
        return Schedule(
            action=self._action(),
            spec=schedule_spec(self.group.cron, self.group.timezone),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL, catchup_window=_CATCH_UP_WINDOW),
            state=self.state(found),
        )

    def state(self, found: ScheduleState | ScheduleListState | None) -> ScheduleState:
        """Whether it should be paused, and what Temporal's Web UI shows beside the schedule."""
        by_hand = found is not None and is_paused_by_hand(found)
        note = f"{self._what}: {_named(self.group.models, _NAMED_IN_NOTE)}"
        if self.pause is not None:
            # The note is what tells the one from the other when the environment is resumed.
            note = f"{_BY_HAND_TOO if by_hand else _BY_ENVIRONMENT}{self.pause} {note}"
        return ScheduleState(note=note, paused=by_hand or self.pause is not None)

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


def is_paused_by_hand(state: ScheduleState | ScheduleListState) -> bool:
    """Whether somebody has paused a schedule in Temporal, and not only its environment with Tempomesh."""
    return state.paused and not (state.note or "").startswith(_BY_ENVIRONMENT)


def _named(models: Sequence[str], most: int) -> str:
    more = len(models) - most
    return ", ".join(models[:most]) + (f" and {more} more" if more > 0 else "")
