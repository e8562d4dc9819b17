"""Timeouts and retries of activities, by what may go wrong with them.

Errors that retrying cannot mend (the model's SQL, an audit, bad input) are values in an activity's result, or
non-retryable failures; what is retried here is infrastructure: network, database, a worker that was lost.
"""

from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy

__all__ = ["EVALUATION", "MAINTENANCE_DUTY", "NOTIFICATION", "PLANNING", "QUERY", "RECORD", "ActivityOptions"]


class ActivityOptions(TypedDict, total=False):
    """The keyword arguments of `workflow.execute_activity` that a policy sets."""

    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy


_HEARTBEAT_TIMEOUT = timedelta(seconds=20)

RECORD: ActivityOptions = {
    "start_to_close_timeout": timedelta(seconds=30),
    # The record is the truth that users see: never given up.
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=0.5), maximum_interval=timedelta(seconds=10)),
}

MAINTENANCE_DUTY: ActivityOptions = {
    "start_to_close_timeout": timedelta(minutes=2),
    # Given up soon: the next round is minutes away, and rounds must not wait for each other.
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=10
    ),
}

PLANNING: ActivityOptions = {
    "start_to_close_timeout": timedelta(hours=6),
    "heartbeat_timeout": _HEARTBEAT_TIMEOUT,
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1), maximum_attempts=20
    ),
}

QUERY: ActivityOptions = {
    "start_to_close_timeout": timedelta(hours=6),
    "heartbeat_timeout": _HEARTBEAT_TIMEOUT,
    # Somebody waits for it, and may ask again; whether it may be repeated only they know.
    "retry_policy": RetryPolicy(maximum_attempts=1),
}

NOTIFICATION: ActivityOptions = {
    "start_to_close_timeout": timedelta(minutes=2),
    "schedule_to_close_timeout": timedelta(minutes=10),
    # Better not told than told twice.
    "retry_policy": RetryPolicy(maximum_attempts=1),
}

EVALUATION: ActivityOptions = {
    # A warehouse query may take a day; that its executor lives is what the heartbeat says.
    "start_to_close_timeout": timedelta(days=7),
    "heartbeat_timeout": _HEARTBEAT_TIMEOUT,
    # Not repeated by Temporal: the walk of the units gives out again what is left, and that is seldom the whole bundle.
    "retry_policy": RetryPolicy(maximum_attempts=1),
}
