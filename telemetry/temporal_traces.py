"""Workflows and activities in traces, by Temporal's own interceptor."""

from typing import Any

__all__ = ["temporal_interceptors"]


def temporal_interceptors(*, is_tracing: bool) -> list[Any]:
    """What a client of Temporal is given so that what it starts, and what its workers do, belongs to traces."""
    if not is_tracing:
        return []
    # Only now: it needs OpenTelemetry's SDK.
    from temporalio.contrib.opentelemetry import TracingInterceptor

    return [TracingInterceptor()]
