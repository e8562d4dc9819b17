"""Ticks that Temporal did not make, because it was away or the schedule was."""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from datetime import datetime, timedelta

from temporalio.client import ScheduleDescription

from activities.crons import last_instant
from activities.schedules.definitions import Definition

__all__ = ["missed"]

_GRACE = timedelta(minutes=2)
"""A tick that is younger may still come: twice the catch-up window."""


def missed(
    wanted: Mapping[str, Definition],
    described: Mapping[str, ScheduleDescription],
    restored: Container[str],
    now: datetime,
) -> Iterator[tuple[str, str]]:
    """The environments in which a cron was due after the last tick of any of them, with the schedule to wake.

    One run evaluates all that is due in its environment, whichever schedule woke it: so one tick makes up for all.
    Schedules that are paused neither tick nor miss anything. One that is new has missed nothing, because a plan has
    just made it; unless it is in `restored`, because it was away or has been asked for only now.
    """
    by_environment: dict[str, list[str]] = defaultdict(list)
    for schedule_id in sorted(described):
        by_environment[wanted[schedule_id].environment].append(schedule_id)
    for environment, schedule_ids in by_environment.items():
        known = [
            moment
            for schedule_id in schedule_ids
            for moment in _known(described[schedule_id], is_new=schedule_id not in restored)
        ]
        # What was due while the environment was paused, whoever resumed it has decided about.
        known += [resumed for schedule_id in schedule_ids if (resumed := wanted[schedule_id].resumed_at) is not None]
        due = [
            (instant, schedule_id)
            for schedule_id in schedule_ids
            if not described[schedule_id].schedule.state.paused
            and (instant := _last(wanted[schedule_id], now - _GRACE)) is not None
        ]
        if due and (not known or max(known) < max(due)[0]):
            yield environment, max(due)[1]


def _known(found: ScheduleDescription, *, is_new: bool) -> Iterator[datetime]:
    """When the schedule is known to have left nothing undone."""
    yield from (action.scheduled_at for action in found.info.recent_actions)
    if is_new:
        yield found.info.created_at


def _last(definition: Definition, before: datetime) -> datetime | None:
    return last_instant(definition.group.cron, definition.group.timezone, before)
