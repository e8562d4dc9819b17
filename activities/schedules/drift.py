"""Whether a schedule is still what it should be: nobody has changed it by hand, and no plan has.

Temporal gives back specs and payloads in a form of its own, so that what they mean is compared.
"""

from collections.abc import Iterable
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleListActionStartWorkflow,
    ScheduleListDescription,
    ScheduleRange,
    ScheduleSpec,
)
from temporalio.converter import DataConverter

__all__ = ["has_drifted", "seems_unchanged"]

_LISTED_CALENDARS = 10
"""A listing leaves out what a spec has more of."""


def seems_unchanged(listed: ScheduleListDescription, wanted: Schedule) -> bool:
    """Whether a schedule is what it should be, as far as a listing tells: its times, and what its note says."""
    found = listed.schedule
    return (
        found is not None
        and isinstance(found.action, ScheduleListActionStartWorkflow)
        and isinstance(wanted.action, ScheduleActionStartWorkflow)
        and found.action.workflow == wanted.action.workflow
        and found.state.note == wanted.state.note
        and _times(found.spec)[:_LISTED_CALENDARS] == _times(wanted.spec)[:_LISTED_CALENDARS]
        and _others(found.spec) == _others(wanted.spec)
    )


async def has_drifted(client: Client, found: Schedule, wanted: Schedule) -> bool:
    """Whether anything of a schedule has to be put right; whether it is paused is its owner's business."""
    return (
        _times(found.spec) != _times(wanted.spec)
        or _others(found.spec) != _others(wanted.spec)
        or found.policy != wanted.policy
        or found.state.note != wanted.state.note
        or found.state.limited_actions
        or await _action(client, found) != await _action(client, wanted)
    )


def _times(spec: ScheduleSpec) -> list[tuple[object, ...]]:
    return [_calendar(calendar) for calendar in spec.calendars]


def _calendar(calendar: ScheduleCalendarSpec) -> tuple[object, ...]:
    fields = (
        calendar.second,
        calendar.minute,
        calendar.hour,
        calendar.day_of_month,
        calendar.month,
        calendar.year,
        calendar.day_of_week,
    )
    return tuple(_numbers(field) for field in fields)


def _numbers(ranges: Iterable[ScheduleRange]) -> frozenset[int]:
    return frozenset(
        number for found in ranges for number in range(found.start, max(found.start, found.end) + 1, found.step or 1)
    )


def _others(spec: ScheduleSpec) -> tuple[object, ...]:
    return (
        spec.time_zone_name or "UTC",
        list(spec.intervals),
        list(spec.skip),
        list(spec.cron_expressions),
        spec.start_at,
        spec.end_at,
        spec.jitter or None,
    )


async def _action(client: Client, schedule: Schedule) -> tuple[object, ...]:
    action = schedule.action
    if not isinstance(action, ScheduleActionStartWorkflow):
        return (action,)
    return (
        action.workflow,
        action.id,
        action.task_queue,
        await _decoded(client, action.args),
        {name: (await _decoded(client, [value]))[0] for name, value in (action.memo or {}).items()},
        action.typed_search_attributes,
        action.execution_timeout,
        action.run_timeout,
        action.retry_policy,
        await _decoded(client, [action.static_summary, action.static_details]),
    )


async def _decoded(client: Client, values: Iterable[Any]) -> list[Any]:
    """What a worker would be given: the values' own JSON, whether they are payloads already or not."""
    return [await _value(client.data_converter, value) for value in values]


async def _value(converter: DataConverter, value: Any) -> Any:
    if isinstance(value, Payload):
        # What was left out comes back as a payload of nothing.
        return (await converter.decode([value]))[0] if value.metadata else None
    return (await converter.decode(await converter.encode([value])))[0]
