"""The models of an environment as a graph."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlmesh.core.snapshot import SnapshotTableInfo
from sqlmesh.utils.date import to_datetime

from server.crons import EnvironmentCrons, ticks
from server.database import Transaction
from server.environments import summary_of
from server.public.links import Links
from server.public.shapes import PublicDag, PublicNode
from server.state_reads import stored_snapshots
from tcloud.wire.environments import CronGroup

__all__ = ["dag_of"]

_DAY = timedelta(days=1)
_DAILY = "@daily"


def dag_of(transaction: Transaction, crons: EnvironmentCrons, environment: str, links: Links) -> PublicDag:
    """The graph of an environment.

    Raises:
        ApiError: 404 if there is no such environment.
    """
    summary = summary_of(transaction, environment)
    found = transaction.state.get_environment(environment)
    snapshots = {snapshot.name: snapshot for snapshot in found.snapshots} if found else {}
    cron, every = _most_frequent(crons.get(transaction, environment, summary.plan_id).crons)
    return PublicDag(
        environment=environment,
        start_at=to_datetime(summary.start_at),
        schedule_seconds=int(every.total_seconds()),
        schedule_cron=cron,
        nodes=[
            _node(name, stored, snapshots[name], environment, links)
            for name, stored in sorted(stored_snapshots(transaction, snapshots.values()))
        ],
        link=links.environment(environment),
    )


def _node(name: str, stored: dict[str, Any], snapshot: SnapshotTableInfo, environment: str, links: Links) -> PublicNode:
    node = stored["node"]
    is_audit = not snapshot.is_model
    return PublicNode(
        name=name,
        model_name=node["name"],
        description=node.get("description"),
        source_type="audit" if is_audit else _source_type(node),
        tags=node.get("tags") or [],
        parent_names=[parent["name"] for parent in stored.get("parents", [])],
        audit_names=[node["name"]] if is_audit else [audit[0] for audit in node.get("audits") or []],
        type="audit" if is_audit else "model",
        link=links.model(environment, name, snapshot.version),
    )


def _source_type(node: dict[str, Any]) -> Any:
    kind = (node.get("kind") or {}).get("name")
    return "external" if kind == "EXTERNAL" else node.get("source_type") or "sql"


def _most_frequent(groups: Iterable[CronGroup]) -> tuple[str, timedelta]:
    """The cron that ticks most often, and how often that is as of now."""
    now = datetime.now(UTC)
    found = [(between, group.cron) for group in groups if (between := _between(ticks(group, now, 2))) is not None]
    if not found:
        return _DAILY, _DAY
    every, cron = min(found)
    return cron, every


def _between(instants: list[datetime]) -> timedelta | None:
    return instants[1] - instants[0] if len(instants) > 1 else None
