"""From the crons that SQLMesh accepts to the schedules that Temporal understands."""

from activities.crons.instants import last_instant, next_instant
from activities.crons.reading import CronNotTranslatableError
from activities.crons.translation import schedule_spec

__all__ = ["CronNotTranslatableError", "last_instant", "next_instant", "schedule_spec"]
