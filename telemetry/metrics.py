"""Metrics of workers and executors: Temporal's SDK's and a few of Tempomesh's own, for Prometheus to scrape.

Off until `serve_metrics` is called; what is measured before, or without it, costs nothing and goes nowhere.
"""

from temporalio.common import MetricCounter, MetricGauge, MetricHistogramFloat, MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

__all__ = ["count", "observe_seconds", "serve_metrics", "set_gauge"]

_SECONDS = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0]
_OWN_DURATIONS = ("tempomesh_evaluation_duration_seconds", "tempomesh_python_build_duration_seconds")


class _Instruments:
    def __init__(self) -> None:
        self.meter: MetricMeter | None = None
        self.counters: dict[str, MetricCounter] = {}
        self.gauges: dict[str, MetricGauge] = {}
        self.histograms: dict[str, MetricHistogramFloat] = {}


_instruments = _Instruments()


def serve_metrics(host: str, port: int) -> None:
    """Has this process's metrics served at `http://<host>:<port>/metrics`; before it connects to Temporal.

    Raises:
        ValueError: If nothing can listen there.
    """
    prometheus = PrometheusConfig(
        bind_address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
        histogram_bucket_overrides=dict.fromkeys(_OWN_DURATIONS, _SECONDS),
    )
    runtime = Runtime(telemetry=TelemetryConfig(metrics=prometheus))
    Runtime.set_default(runtime)
    _instruments.meter = runtime.metric_meter


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
