"""The Temporal schedules of a project: those of its environments, and that of its maintenance."""

from activities.schedules.environments import EnvironmentSchedules
from activities.schedules.maintenance import MaintenanceSchedule

__all__ = ["EnvironmentSchedules", "MaintenanceSchedule"]
