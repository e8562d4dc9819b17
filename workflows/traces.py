"""Which trace a plan belongs to, for the workflow that takes plans up long after they were submitted."""

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from opentelemetry import context
    from opentelemetry.propagate import extract

__all__ = ["in_trace"]


@contextmanager
def in_trace(traceparent: str | None) -> Iterator[None]:
    """Makes what the body starts part of a trace; None leaves it as it is. No command of a workflow depends on it."""
    if traceparent is None:
        yield
        return
    token = context.attach(extract({"traceparent": traceparent}, context.get_current()))
    try:
        yield
    finally:
        context.detach(token)
