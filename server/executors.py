"""Executors and the gateways they serve, as far as they were seen lately."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from server.database import Transaction
from server.errors import ApiError
from server.schema import executors
from server.slots import provide_slots
from tcloud.wire.executors import Executor, ExecutorHeartbeat, Gateway

__all__ = [
    "SQLMESH_VERSION",
    "check_gateway",
    "known_executors",
    "known_gateways",
    "live_executors",
    "live_gateways",
    "record_heartbeat",
]

_LIVE = timedelta(seconds=30)
"""An executor that was not heard of for longer is taken to be gone: it reports every few seconds."""

_SHOWN = timedelta(hours=1)
"""How long an executor that is gone is still listed."""

_LOST = "lost"
_STOPPING, _STOPPED = "stopping", "stopped"
"""What an executor reports last that is not lost, and what it is once it is silent."""

_OUTDATED = "outdated"

SQLMESH_VERSION = version("sqlmesh")
"""The server's, which executors have to have, too: they read and write the state that it keeps."""


def record_heartbeat(transaction: Transaction, heartbeat: ExecutorHeartbeat) -> None:
    """Records that an executor lives and what it serves."""
    seen = heartbeat.model_dump(mode="json", exclude={"identity"}) | {"last_seen_at": datetime.now(UTC)}
    provide_slots(transaction, heartbeat.gateways)
    statement = insert(executors).values(project=transaction.project.namespace, identity=heartbeat.identity, **seen)
    transaction.connection.execute(statement.on_conflict_do_update(index_elements=["project", "identity"], set_=seen))


def known_executors(transaction: Transaction) -> list[Executor]:
    """Executors that were seen within the last hour.

    Those that went silent have the status `lost`, or `stopped` if they had said that they would be; those with another
    SQLMesh than the server's `outdated`.
    """
    now = datetime.now(UTC)
    return [
        executor.model_copy(update={"status": _status(executor, now)})
        for executor in _seen_since(transaction, now - _SHOWN)
    ]


def live_executors(transaction: Transaction) -> list[Executor]:
    """Executors that are alive."""
    return _seen_since(transaction, datetime.now(UTC) - _LIVE)


def live_gateways(transaction: Transaction) -> list[Gateway]:
    """The gateways that executors serve now, by name; where two tell of one gateway, the one seen last is believed."""
    live = [each for each in live_executors(transaction) if not _is_outdated(each)]
    return _by_name(gateway for executor in sorted(live, key=_last_seen) for gateway in executor.gateways)


def check_gateway(transaction: Transaction, gateway: str) -> None:
    """Checks that a live executor serves a gateway.

    Raises:
        ApiError: 422 if none does; it names those that are served.
    """
    served = [live.name for live in live_gateways(transaction)]
    seen = live_executors(transaction)
    if gateway in served:
        return
    if served:
        what_there_is = f"they serve {', '.join(served)}"
    elif any(_is_outdated(each) for each in seen):
        what_there_is = f"those that run have another SQLMesh than the server's {SQLMESH_VERSION}: upgrade them"
    elif seen:
        what_there_is = f"those that run have no connection: `tcloud connections add {gateway}` gives them one"
    else:
        what_there_is = "none is running: start `tcloud executor apply`"
    raise ApiError(422, "TM-GATEWAY", f"No executor serves the gateway '{gateway}'; {what_there_is}.")


def known_gateways(transaction: Transaction) -> list[Gateway]:
    """All gateways that executors have told of, also executors that are gone."""
    rows = transaction.connection.execute(
        select(executors.c.gateways).where(executors.c.project == transaction.project.namespace)
    )
    return [Gateway.model_validate(gateway) for row in rows for gateway in row.gateways]


def _seen_since(transaction: Transaction, since: datetime) -> list[Executor]:
    rows = transaction.connection.execute(
        select(executors)
        .where(executors.c.project == transaction.project.namespace, executors.c.last_seen_at >= since)
        .order_by(executors.c.kind, executors.c.identity)
    )
    return [Executor.model_validate(dict(row._mapping)) for row in rows]


def _status(executor: Executor, now: datetime) -> str:
    if executor.last_seen_at < now - _LIVE:
        return _STOPPED if executor.status == _STOPPING else _LOST
    return _OUTDATED if _is_outdated(executor) else executor.status


def _is_outdated(executor: ExecutorHeartbeat) -> bool:
    return executor.sqlmesh_version != SQLMESH_VERSION


def _by_name(gateways: Iterable[Gateway]) -> list[Gateway]:
    latest = {gateway.name: gateway for gateway in gateways}
    return [latest[name] for name in sorted(latest)]


def _last_seen(executor: Executor) -> datetime:
    return executor.last_seen_at
