"""OpenTelemetry traces, from a command to the queries that come of it; off unless OTEL_… variables name a collector.

The variables are OpenTelemetry's own (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, …).
While it is off nothing of OpenTelemetry's is imported.
"""

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from tcloud.errors import TcloudError

__all__ = [
    "TracingError",
    "async_request_hooks",
    "command_span",
    "continued",
    "is_tracing",
    "record_spans",
    "request_hooks",
    "span",
    "start_tracing",
    "trace_headers",
]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TRACER = "tempomesh"


class _State:
    provider: Any = None


class TracingError(TcloudError):
    """Traces are asked for, and what makes them is not installed."""

    exit_code = 2


def is_tracing() -> bool:
    """Whether this process makes traces."""
    return _State.provider is not None


@contextmanager
def start_tracing(service: str) -> Iterator[None]:
    """Has this process make traces while the body runs, if its environment asks for them, and send them at the end.

    Args:
        service: The process's name, unless `OTEL_SERVICE_NAME` says another.

    Raises:
        TracingError: If the packages for it are missing.
    """
    is_asked_for = any(os.environ.get(name) for name in _ENDPOINTS)
    if not is_asked_for or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingError(
            f"{next(name for name in _ENDPOINTS if os.environ.get(name))} asks for traces: "
            "install `tempomesh[otel]` (clients: `tempomesh-client[otel]`), or unset it."
        ) from error
    name = os.environ.get("OTEL_SERVICE_NAME") or service
    provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _State.provider = provider
    try:
        yield
    finally:
        _State.provider = None
        provider.shutdown()


@contextmanager
def span(name: str, kind: str = "internal", **attributes: str) -> Iterator[None]:
    """A span around the body, a child of the one that is open; nothing while traces are off.

    Args:
        name: What is done, of few values.
        kind: `internal`, `server` or `client`.
        attributes: What it is about.
    """
    if _State.provider is None:
        yield
        return
    from opentelemetry.trace import SpanKind

    tracer = _State.provider.get_tracer(_TRACER)
    with tracer.start_as_current_span(name, kind=SpanKind[kind.upper()], attributes=attributes):
        yield


@contextmanager
def command_span(command: str) -> Iterator[None]:
    """Has a command of `tcloud` make a trace of its own.

    Raises:
        TracingError: If the packages for it are missing.
    """
    with start_tracing("tcloud"), span(f"tcloud {command}"):
        yield


def trace_headers() -> dict[str, str]:
    """The headers that make the receiver's spans children of the one that is open; none while traces are off."""
    headers: dict[str, str] = {}
    if _State.provider is not None:
        from opentelemetry.propagate import inject

        inject(headers)
    return headers


@contextmanager
def continued(headers: Mapping[str, str]) -> Iterator[None]:
    """Makes spans of the body children of the sender's, as its headers say."""
    if _State.provider is None or "traceparent" not in headers:
        yield
        return
    from opentelemetry import context
    from opentelemetry.propagate import extract

    token = context.attach(extract(headers))
    try:
        yield
    finally:
        context.detach(token)


def request_hooks() -> list[Callable[[httpx.Request], None]]:
    """What a client of HTTP does with each request so that it belongs to the trace; nothing while traces are off."""
    return [_add_trace] if is_tracing() else []


def async_request_hooks() -> list[Callable[[httpx.Request], Awaitable[None]]]:
    """As `request_hooks`, for an asynchronous client."""
    return [_add_trace_async] if is_tracing() else []


def _add_trace(request: httpx.Request) -> None:
    request.headers.update(trace_headers())


async def _add_trace_async(request: httpx.Request) -> None:
    request.headers.update(trace_headers())


def record_spans(spans: Iterable[Mapping[str, Any]]) -> None:
    """Adds spans that were noted elsewhere, as children of the one that is open.

    Args:
        spans: Each with `name`, `start_ns`, `end_ns` (since the epoch) and `attributes`.
    """
    if _State.provider is None:
        return
    tracer = _State.provider.get_tracer(_TRACER)
    for noted in spans:
        made = tracer.start_span(noted["name"], start_time=noted["start_ns"], attributes=noted["attributes"])
        made.end(end_time=noted["end_ns"])
