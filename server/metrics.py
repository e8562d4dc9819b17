"""What operators watch, for Prometheus: how much waits, for how long, and what ended badly.

Measured every few seconds, whoever scrapes how often; a few counts of PostgreSQL and a question to Temporal for each
queue. Every server of an installation says the same, because it is all in the records.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from wsgiref.simple_server import WSGIServer

import anyio
import structlog
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import TextClause, text
from sqlalchemy.exc import SQLAlchemyError

from server.database import Database
from server.errors import ApiError
from server.executors import known_executors, known_gateways
from server.projects import Project
from server.temporal import TemporalGateway

__all__ = ["Metrics", "Sample", "serve_metrics"]

_log = structlog.get_logger(__name__)
_EVERY_SECONDS = 10.0

_HELP = {
    "tempomesh_measured_timestamp_seconds": "When these numbers were measured; an old one means that they cannot be.",
    "tempomesh_plans": "Plans that are not over: scheduled ones wait for their turn or for a worker.",
    "tempomesh_plan_oldest_age_seconds": "How long ago the oldest plan of a status was submitted.",
    "tempomesh_plan_last_end_timestamp_seconds": "When a plan of an environment last ended so; of the last seven days.",
    "tempomesh_runs": "Runs that are not over.",
    "tempomesh_run_oldest_age_seconds": "How long ago the oldest run of a status began.",
    "tempomesh_run_last_end_timestamp_seconds": "When a run of an environment last ended so; of the last seven days.",
    "tempomesh_evaluations_in_flight": "Evaluations that executors are at, or whose executor was lost a moment ago.",
    "tempomesh_claims": "Claims of physical tables: live, held by a plan that promotes, or expired.",
    "tempomesh_parked_tables": "Physical tables that a run waits for because another plan or run writes them.",
    "tempomesh_gateway_slots": "Concurrent tasks of gateways, taken and free.",
    "tempomesh_queries": "Queries and housekeeping that are not over.",
    "tempomesh_pauses": "Environments and models that are paused.",
    "tempomesh_executors": "Executors of the last hour: ready, stopping, outdated, lost.",
    "tempomesh_control_workers": "Control workers that Temporal has heard of within two minutes.",
    "tempomesh_queue_backlog": "What waits in a queue of Temporal for an executor or control worker: what is due.",
    "tempomesh_queue_backlog_age_seconds": "How long the oldest of it has waited: how late it is.",
}

_COUNTS: Sequence[tuple[str, tuple[str, ...], TextClause]] = (
    (
        "tempomesh_plans",
        ("status",),
        text(
            "SELECT status, count(*) FROM tempomesh.plans "
            "WHERE project = :project AND status IN ('scheduled', 'in_progress') GROUP BY status"
        ),
    ),
    (
        "tempomesh_plan_oldest_age_seconds",
        ("status",),
        text(
            "SELECT status, extract(epoch FROM now() - min(created_at)) FROM tempomesh.plans "
            "WHERE project = :project AND status IN ('scheduled', 'in_progress') GROUP BY status"
        ),
    ),
    (
        "tempomesh_plan_last_end_timestamp_seconds",
        ("environment", "status"),
        text(
            "SELECT environment, status, extract(epoch FROM max(end_at)) FROM tempomesh.plans "
            "WHERE project = :project AND created_at > now() - interval '7 days' AND end_at IS NOT NULL "
            "GROUP BY environment, status"
        ),
    ),
    (
        "tempomesh_runs",
        ("status",),
        text(
            "SELECT status, count(*) FROM tempomesh.runs "
            "WHERE project = :project AND status IN ('scheduled', 'in_progress') GROUP BY status"
        ),
    ),
    (
        "tempomesh_run_oldest_age_seconds",
        ("status",),
        text(
            "SELECT status, extract(epoch FROM now() - min(start_at)) FROM tempomesh.runs "
            "WHERE project = :project AND status IN ('scheduled', 'in_progress') GROUP BY status"
        ),
    ),
    (
        "tempomesh_run_last_end_timestamp_seconds",
        ("environment", "status"),
        text(
            "SELECT environment, status, extract(epoch FROM max(end_at)) FROM tempomesh.runs "
            "WHERE project = :project AND start_at > now() - interval '7 days' AND end_at IS NOT NULL "
            "GROUP BY environment, status"
        ),
    ),
    (
        "tempomesh_evaluations_in_flight",
        (),
        text("SELECT count(*) FROM tempomesh.evaluations WHERE project = :project AND status = 'in_progress'"),
    ),
    (
        "tempomesh_claims",
        ("state",),
        text(
            "SELECT CASE WHEN is_held THEN 'held' WHEN lease_expires_at < now() THEN 'expired' ELSE 'live' END, "
            "count(*) FROM tempomesh.claims WHERE project = :project GROUP BY 1"
        ),
    ),
    (
        "tempomesh_parked_tables",
        (),
        text("SELECT count(*) FROM tempomesh.parkings WHERE project = :project AND expires_at >= now()"),
    ),
    (
        "tempomesh_gateway_slots",
        ("gateway", "state"),
        text(
            "SELECT gateway, CASE WHEN lease_expires_at < now() THEN 'free' ELSE 'taken' END, count(*) "
            "FROM tempomesh.slots WHERE project = :project GROUP BY 1, 2"
        ),
    ),
    (
        "tempomesh_queries",
        ("kind",),
        text("SELECT kind, count(*) FROM tempomesh.queries WHERE project = :project AND end_at IS NULL GROUP BY kind"),
    ),
    ("tempomesh_pauses", (), text("SELECT count(*) FROM tempomesh.pauses WHERE project = :project")),
)
_STATUSES = ("scheduled", "in_progress")
"""Whose counts are there also where they are nought: an alert cannot tell absence from health."""


@dataclass(frozen=True)
class Sample:
    """A number, and what it is of."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    value: float = 0.0


class Metrics(Collector):
    """Keeps what was measured last.

    Args:
        database: The records.
        temporal: The queues.
        projects: Whose numbers are meant.
    """

    def __init__(self, database: Database, temporal: TemporalGateway, projects: Iterable[Project]):
        self._database = database
        self._temporal = temporal
        self._projects = list(projects)
        self._samples: list[Sample] = []

    async def keep_measuring(self) -> None:
        """Measures until it is cancelled."""
        while True:
            await self.measure()
            await anyio.sleep(_EVERY_SECONDS)

    async def measure(self) -> None:
        """Measures once; what cannot be measured now is left out, and said so."""
        samples: list[Sample] = []
        try:
            for project in self._projects:
                samples += await run_in_threadpool(self._recorded, project)
            samples.append(Sample("tempomesh_measured_timestamp_seconds", {}, time.time()))
        except SQLAlchemyError as error:
            _log.warning("not_measured", reason=str(error).splitlines()[0])
            samples += [each for each in self._samples if each.name == "tempomesh_measured_timestamp_seconds"]
        for project in self._projects:
            try:
                samples += await self._queued(project)
            except (ApiError, SQLAlchemyError) as error:
                _log.warning("queues_not_measured", project=project.namespace, reason=str(error).splitlines()[0])
        self._samples = samples

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What was measured last, as Prometheus takes it."""
        families: dict[str, GaugeMetricFamily] = {}
        for sample in self._samples:
            if sample.name not in families:
                families[sample.name] = GaugeMetricFamily(sample.name, _HELP[sample.name], labels=list(sample.labels))
            families[sample.name].add_metric(list(sample.labels.values()), sample.value)
        yield from families.values()

    def _recorded(self, project: Project) -> list[Sample]:
        samples = []
        of = {"project": project.namespace}
        with self._database.transaction(project) as transaction:
            for name, labels, query in _COUNTS:
                found: dict[tuple[str, ...], float] = {
                    tuple(map(str, row[:-1])): float(row[-1] or 0) for row in transaction.connection.execute(query, of)
                }
                expected = [(status,) for status in _STATUSES] if labels == ("status",) else []
                values_of = [*found, *(each for each in expected if each not in found)]
                samples += [
                    Sample(name, of | dict(zip(labels, values, strict=True)), found.get(values, 0.0))
                    for values in values_of
                ]
            executors: dict[tuple[str, str], int] = {}
            for executor in known_executors(transaction):
                key = executor.kind.value, executor.status
                executors[key] = executors.get(key, 0) + 1
        for kind in ("run", "apply"):
            executors.setdefault((kind, "ready"), 0)
        for (kind, status), number in executors.items():
            samples.append(Sample("tempomesh_executors", of | {"kind": kind, "status": status}, number))
        return samples

    def _gateways(self, project: Project) -> list[str]:
        # Those of executors that are gone, too: what waits for them is what somebody wants to hear of.
        with self._database.transaction(project) as transaction:
            return sorted({gateway.name.lower() for gateway in known_gateways(transaction)})

    async def _queued(self, project: Project) -> list[Sample]:
        of = {"project": project.namespace}
        workers = await self._temporal.control_workers(project)
        samples = [Sample("tempomesh_control_workers", of, len(workers))]
        gateways = await run_in_threadpool(self._gateways, project)
        for queue, (backlog, age) in (await self._temporal.backlogs(project, gateways)).items():
            samples.append(Sample("tempomesh_queue_backlog", of | {"queue": queue}, backlog))
            samples.append(Sample("tempomesh_queue_backlog_age_seconds", of | {"queue": queue}, age))
        return samples


def serve_metrics(metrics: Metrics, host: str, port: int) -> Callable[[], None]:
    """Serves `/metrics` on a port of its own, in a thread; returns what ends it.

    Raises:
        OSError: If nothing can listen there.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    server: WSGIServer
    thread: threading.Thread
    server, thread = start_http_server(port, addr=host, registry=registry)

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return stop
