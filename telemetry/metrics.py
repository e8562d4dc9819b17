"""Metrics of workers and executors: Temporal's SDK's and a few of Tempomesh's own, for Prometheus to scrape.

Off until `start_runtime` is called with an address; what is measured before, or without one, costs nothing and goes
nowhere.
"""

import logging

from temporalio.common import MetricCounter, MetricGauge, MetricHistogramFloat, MetricMeter
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

__all__ = ["count", "observe_seconds", "set_gauge", "start_runtime"]

_SECONDS = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0]
_OWN_DURATIONS = ("tempomesh_evaluation_duration_seconds", "tempomesh_python_build_duration_seconds")


class _Instruments:
    def __init__(self) -> None:
        self.meter: MetricMeter | None = None
        self.counters: dict[str, MetricCounter] = {}
        self.gauges: dict[str, MetricGauge] = {}
        self.histograms: dict[str, MetricHistogramFloat] = {}


_instruments = _Instruments()


def start_runtime(address: tuple[str, int] | None) -> None:
    """Sets Temporal's SDK up for this process, before it connects: what it logs goes where this process's lines go.

    Args:
        address: Where `/metrics` is served; nowhere if None.

    Raises:
        ValueError: If nothing can listen there.
    """
    logs = LoggingConfig(
        filter=TelemetryFilter(core_level="WARN", other_level="ERROR"),
        forwarding=LogForwardingConfig(logging.getLogger("temporalio.core"), prepend_target_on_message=False),
    )
    runtime = Runtime(telemetry=TelemetryConfig(logging=logs, metrics=_prometheus(*address) if address else None))
    Runtime.set_default(runtime)
    if address:
        _instruments.meter = runtime.metric_meter


def _prometheus(host: str, port: int) -> PrometheusConfig:
    return PrometheusConfig(
        bind_address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
        histogram_bucket_overrides=dict.fromkeys(_OWN_DURATIONS, _SECONDS),
    )


def count(name: str, **labels: str) -> None:
    """Counts one of something."""
    if (meter := _instruments.meter) is not None:
        counter = _instruments.counters.get(name) or meter.create_counter(name)
        _instruments.counters[name] = counter
        counter.add(1, labels)


def set_gauge(name: str, value: int, **labels: str) -> None:
    """Says how many there are of something now."""
    if (meter := _instruments.meter) is not None:
        gauge = _instruments.gauges.get(name) or meter.create_gauge(name)
        _instruments.gauges[name] = gauge
        gauge.set(value, labels)


def observe_seconds(name: str, seconds: float, **labels: str) -> None:
    """Notes how long something took; the name ends with `_seconds`."""
    if (meter := _instruments.meter) is not None:
        histogram = _instruments.histograms.get(name) or meter.create_histogram_float(name)
        _instruments.histograms[name] = histogram
        histogram.record(seconds, labels)
