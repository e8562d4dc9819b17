"""SQLMesh state to test with: real snapshots, without a warehouse."""

from collections.abc import Callable, Collection, Mapping
from typing import cast

import httpx
from sqlmesh.core.dialect import parse
from sqlmesh.core.environment import Environment
from sqlmesh.core.model import SqlModel, load_sql_based_model
from sqlmesh.core.snapshot import Snapshot, SnapshotChangeCategory
from sqlmesh.core.snapshot.definition import Node

from tempomesh_runner.state import RemoteStateSync

__all__ = ["dag_of", "environment_of", "promoted", "remote_state", "snapshot_of"]


def snapshot_of(name: str, cron: str = "@daily", timezone: str | None = None, constant: int = 1) -> Snapshot:
    """A categorized snapshot of a model that selects a constant; another constant is another version."""
    zone = f", cron_tz '{timezone}'" if timezone else ""
    model = load_sql_based_model(
        parse(
            f"MODEL (name db.{name}, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '{cron}'{zone}, "
            f"start '2024-01-01'); SELECT {constant} AS id, ds::DATE AS ds FROM raw.source "
            "WHERE ds BETWEEN @start_ds AND @end_ds"
        ),
        dialect="postgres",
    )
    snapshot = Snapshot.from_node(cast(SqlModel, model), nodes={})
    snapshot.categorize_as(SnapshotChangeCategory.BREAKING)
    return snapshot


def dag_of(dependencies: Mapping[str, Collection[str]], tags: Mapping[str, str] | None = None) -> list[Snapshot]:
    """Categorized snapshots of daily models that read each other; upstream ones come first, as they are given.

    Args:
        dependencies: Names of models, each with those that it reads.
        tags: A tag for some of them.
    """
    nodes: dict[str, Node] = {}
    snapshots = []
    for name, read in dependencies.items():
        sources = [f"db.{source}" for source in sorted(read)] or ["raw.source"]
        joined = " ".join(f"JOIN {source} USING (ds)" for source in sources[1:])
        tag = f", tags [{tags[name]}]" if tags and name in tags else ""
        model = load_sql_based_model(
            parse(
                f"MODEL (name db.{name}, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), cron '@daily'{tag}, "
                f"start '2024-01-01'); SELECT 1 AS id, {sources[0]}.ds::DATE AS ds FROM {sources[0]} {joined} "
                f"WHERE {sources[0]}.ds BETWEEN @start_ds AND @end_ds"
            ),
            dialect="postgres",
        )
        nodes[model.fqn] = model
        snapshot = Snapshot.from_node(cast(SqlModel, model), nodes=nodes)
        snapshot.categorize_as(SnapshotChangeCategory.BREAKING)
        snapshots.append(snapshot)
    return snapshots


def environment_of(
    snapshots: list[Snapshot], plan_id: str, previous_plan_id: str | None = None, name: str = "prod"
) -> Environment:
    """An environment with these snapshots."""
    return Environment(
        name=name,
        snapshots=[snapshot.table_info for snapshot in snapshots],
        start_at="2024-01-01",
        plan_id=plan_id,
        previous_plan_id=previous_plan_id,
    )


def remote_state(client: httpx.Client) -> RemoteStateSync:
    """SQLMesh's state over HTTP, as an executor has it."""

    def transport(method: str, body: bytes) -> bytes:
        return client.post(f"state/{method}", content=body).raise_for_status().content

    return RemoteStateSync(cast(Callable[[str, bytes], bytes], transport))


def promoted(
    client: httpx.Client, snapshots: list[Snapshot], plan_id: str, name: str = "prod", previous: str | None = None
) -> Environment:
    """Pushes snapshots and makes them an environment, finalized."""
    state = remote_state(client)
    state.push_snapshots(snapshots)
    environment = environment_of(snapshots, plan_id, previous, name)
    state.promote(environment, set())
    state.finalize(environment)
    return environment
