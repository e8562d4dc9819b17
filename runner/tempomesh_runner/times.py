"""Times of an environment that became text on the wire."""

from datetime import datetime

from sqlmesh.core.environment import Environment
from sqlmesh.utils.date import TimeLike

__all__ = ["with_datetimes"]


def with_datetimes(environment: Environment) -> Environment:
    """Gives an environment its datetimes back: SQLMesh's state writes a datetime and a text in different forms."""
    environment.start_at = _datetime(environment.start_at)
    if environment.end_at is not None:
        environment.end_at = _datetime(environment.end_at)
    return environment


def _datetime(time: TimeLike) -> TimeLike:
    # Only what pydantic wrote has the `T`: what a person typed ("1 week ago", "2025-01-01") stays as it was typed.
    if not isinstance(time, str) or "T" not in time:
        return time
    try:
        return datetime.fromisoformat(time)
    except ValueError:
        return time
