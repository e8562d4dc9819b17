"""An executor: evaluates models, or applies plans, in runner processes of its own."""

import asyncio
import os
import secrets
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Container
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

import httpx
import structlog
from dotenv import dotenv_values
from temporalio.client import Client
from temporalio.worker import Worker

from activities.bundles import UnitBundles
from activities.executions import Executions
from activities.executor import RunnerBackedActivities
from activities.leases import LeaseKeeper
from activities.pythons import Pythons
from activities.runner_calls import RunnerCalls
from activities.turns import TurnQueue
from activities.units import UnitEvaluations
from envmanager.environments import OWN, runner_variables
from envmanager.errors import TaskFailedError, ZygoteFailedError
from envmanager.pool import Role, StateCallError
from envmanager.pools import RunnerLimits, RunnerPools
from envmanager.resolving import check_index, drivers_of
from envmanager.store import EnvironmentStore
from tcloud.api.executor import ExecutorApi, RefusedError
from tcloud.wire.executions import OwnerKind
from tcloud.wire.executors import Bootstrap, ExecutorHeartbeat, ExecutorKind, Gateway, HeartbeatAnswer
from workers.binding import ActivityLogs
from workers.connections import (
    CannotStartError,
    NotReachableError,
    WrongSettingsError,
    bootstrap,
    connect_temporal,
)
from workers.duty import READY, Duty
from workers.health import Health, serving_health, start_metrics, temporal_trouble
from workers.pythons import PythonKeeper
from workers.reading import EnvironmentReader
from workers.settings import ExecutorSettings

__all__ = ["check_executor", "serve_executor"]

_log = structlog.get_logger(__name__)
_HEARTBEAT_SECONDS = 5.0
_STOPPING = "stopping"
_IDLE_SECONDS = 5.0
_IDLE_POLL_SECONDS = 0.5
_PREFIX = "SQLMESH__"
_WAREHOUSE_UNREACHABLE = "WarehouseUnreachableError"


async def serve_executor(kind: ExecutorKind, settings: ExecutorSettings, stop: asyncio.Event, *, once: bool) -> None:
    """Serves the queue of a kind until it is told to stop, or, with `once`, until it has had nothing to do for a while.

    Raises:
        CannotStartError: If the server, Temporal or a gateway is out of reach, or versions differ.
    """
    start_metrics(settings)
    health = Health()
    with serving_health(settings, health):
        async with ExecutorApi(settings.url, settings.bearer) as api, _runners(settings) as (store, pools):
            await _serve(kind, settings, api, store, pools, health, stop, once=once)


async def _serve(
    kind: ExecutorKind,
    settings: ExecutorSettings,
    api: ExecutorApi,
    store: EnvironmentStore,
    pools: RunnerPools,
    health: Health,
    stop: asyncio.Event,
    *,
    once: bool,
) -> None:
    identity = f"{kind.value}@{socket.gethostname()}:{os.getpid()}"
    known = await bootstrap(api.bootstrap, settings.url, settings.start_patience)
    _require_version(known)
    gateways, notifies_of = await _describe(pools)
    client = await connect_temporal(known, identity)
    leases = LeaseKeeper(api, identity)
    concurrency = settings.executor_concurrency or _default(gateways).concurrent_tasks
    pythons = _pythons(api, store, pools, known, gateways)
    runners = RunnerCalls(pythons, api)
    units = UnitEvaluations(TurnQueue(api), runners, leases, identity, settings.executor_evaluation_timeout)
    activities = _activities(api, runners, pythons, units, notifies_of=notifies_of)
    heartbeat = _heartbeat(kind, identity, known, gateways)
    duty = Duty(known.sqlmesh_version)
    keeper = PythonKeeper(pythons, store, settings.executor_python_keep, settings.executor_python_max_bytes)
    background = [
        asyncio.create_task(leases.run()),
        asyncio.create_task(keeper.run()),
        asyncio.create_task(_report(api, heartbeat, duty, keeper, EnvironmentReader(runners))),
    ]
    try:
        while not stop.is_set():
            async with _worker(kind, client, settings, concurrency, activities) as worker:
                health.ready_means(partial(_trouble, worker, client, duty))
                duty.server_has((await api.register(heartbeat)).sqlmesh_version)
                _log.info("ready", queue=kind.value, project=known.project, identity=identity, concurrency=concurrency)
                await _first(_until_idle(pools, stop) if once else stop.wait(), duty.over())
                _log.info("stopping", grace_seconds=settings.executor_grace.total_seconds())
                status = _STOPPING if stop.is_set() or once else duty.status
                with suppress(httpx.HTTPError, RefusedError):
                    await api.register(heartbeat.model_copy(update={"status": status}))
            if once:
                break
            # One that is outdated waits: it goes on if the server is taken back to the version before.
            await _first(stop.wait(), duty.again())
    finally:
        for task in background:
            task.cancel()


async def check_executor(kind: ExecutorKind, settings: ExecutorSettings) -> list[str]:
    """Says what of an executor's surroundings is in order, a line each.

    Raises:
        CannotStartError: At the first thing that is not.
    """
    async with ExecutorApi(settings.url, settings.bearer) as api, _runners(settings) as (store, pools):
        known = await bootstrap(api.bootstrap, settings.url, settings.start_patience)
        _require_version(known)
        lines = [f"server {settings.url}: ok, SQLMesh {known.sqlmesh_version}"]
        await connect_temporal(known, f"{kind.value}-check")
        assert known.temporal is not None  # noqa: S101 - `bootstrap` refuses an answer without it
        lines.append(f"Temporal {known.temporal.address}, namespace {known.temporal.namespace}: ok")
        lines.extend(f"gateway {gateway.name} ({gateway.type}): ok" for gateway in (await _describe(pools))[0])
        trouble = await check_index(store.uv)
        lines.append(f"package index: {f'not reached, {trouble}' if trouble else 'ok'}")
        return lines


@asynccontextmanager
async def _runners(settings: ExecutorSettings) -> AsyncIterator[tuple[EnvironmentStore, RunnerPools]]:
    variables = {**_from_env_file(settings.env_file), **os.environ}
    scratch = settings.executor_scratch / f"tm-{os.getpid()}-{secrets.token_hex(3)}"
    scratch.mkdir(parents=True, mode=0o700)
    store = EnvironmentStore(settings.executor_cache, variables)
    limits = RunnerLimits(
        max_tasks=settings.executor_max_tasks_per_runner,
        max_memory_bytes=settings.executor_max_runner_memory_bytes,
        memory_limit_bytes=settings.executor_runner_memory_limit_bytes,
        max_environments=settings.executor_max_python_environments,
        max_idle=settings.executor_max_idle_runners,
    )
    pools = RunnerPools(store.hold, runner_variables(variables), scratch, limits)
    try:
        try:
            await pools.start()
        except ZygoteFailedError as error:
            raise CannotStartError(str(error)) from error
        yield store, pools
    finally:
        await pools.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def _pythons(
    api: ExecutorApi, store: EnvironmentStore, pools: RunnerPools, known: Bootstrap, gateways: list[Gateway]
) -> Pythons:
    return Pythons(
        api,
        store,
        pools,
        drivers=drivers_of({gateway.type for gateway in gateways}),
        sqlmesh_version=known.sqlmesh_version,
        python_version=".".join(map(str, sys.version_info[:2])),
    )


def _from_env_file(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    if not path.is_file():
        raise WrongSettingsError(f"TCLOUD_ENV_FILE names {path}, which is not a file.")
    return {k: v for k, v in dotenv_values(path).items() if v is not None and k.upper().startswith(_PREFIX)}


def _require_version(known: Bootstrap) -> None:
    own = version("sqlmesh")
    if own != known.sqlmesh_version:
        raise WrongSettingsError(
            f"This executor has SQLMesh {own}, the server has {known.sqlmesh_version}: "
            f"run `pip install sqlmesh=={known.sqlmesh_version}` in its Python environment and start it again."
        )


async def _describe(pools: RunnerPools) -> tuple[list[Gateway], frozenset[OwnerKind]]:
    async def no_state(method: str, _: bytes) -> bytes:
        raise StateCallError(f"'{method}' is not for this task.", "SQLMeshError", retryable=False)

    try:
        async with pools.runner(Role.PLAN) as runner:
            described = await runner.call("describe_gateways", {}, no_state)
    except TaskFailedError as error:
        first_line = str(error).strip().splitlines()[0]
        if error.error_type != _WAREHOUSE_UNREACHABLE:
            raise WrongSettingsError(f"The SQLMESH__… variables of this executor: {first_line}") from error
        raise NotReachableError(
            f"The warehouse cannot be reached: {first_line} (set by the variables SQLMESH__GATEWAYS__…)"
        ) from error
    notifies_of = frozenset(OwnerKind(kind) for kind in described["notifies_of"])
    return [Gateway.model_validate(gateway) for gateway in described["gateways"]], notifies_of


def _default(gateways: list[Gateway]) -> Gateway:
    return next(gateway for gateway in gateways if gateway.is_default)


def _heartbeat(kind: ExecutorKind, identity: str, known: Bootstrap, gateways: list[Gateway]) -> ExecutorHeartbeat:
    return ExecutorHeartbeat(
        identity=identity,
        kind=kind,
        host=socket.gethostname(),
        version=version("tempomesh"),
        sqlmesh_version=known.sqlmesh_version,
        gateways=gateways,
        python_environments=[OWN],
    )


async def _report(
    api: ExecutorApi, heartbeat: ExecutorHeartbeat, duty: Duty, keeper: PythonKeeper, environments: EnvironmentReader
) -> None:
    async with asyncio.TaskGroup() as reading:
        last: asyncio.Task[None] | None = None
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            try:
                answer = await api.register((await keeper.add_to(heartbeat)).model_copy(update={"status": duty.status}))
            except (httpx.HTTPError, RefusedError) as error:
                duty.not_reported(str(error) or type(error).__name__)
                _log.warning("heartbeat_not_sent", reason=str(error) or type(error).__name__)
                continue
            duty.server_has(answer.sqlmesh_version)
            if duty.status == READY and (last is None or last.done()):
                last = reading.create_task(_prepare(answer, keeper, environments))


async def _prepare(answer: HeartbeatAnswer, keeper: PythonKeeper, environments: EnvironmentReader) -> None:
    await keeper.build(answer.python_environments)
    await environments.read(answer.scheduled)


def _activities(
    api: ExecutorApi,
    runners: RunnerCalls,
    pythons: Pythons,
    units: UnitEvaluations,
    *,
    notifies_of: Container[OwnerKind],
) -> RunnerBackedActivities:
    executions = Executions(api)
    bundles = UnitBundles(executions, units)
    return RunnerBackedActivities(api, runners, pythons, executions, bundles, notifies_of=notifies_of)


def _worker(
    kind: ExecutorKind,
    client: Client,
    settings: ExecutorSettings,
    concurrency: int,
    activities: RunnerBackedActivities,
) -> Worker:
    return Worker(
        client,
        task_queue=kind.value,
        activities=[
            activities.build_stages,
            activities.apply_stage,
            activities.prepare_backfill,
            activities.prepare_catch_up,
            activities.prepare_run,
            activities.run_statements,
            activities.notify_run,
            activities.notify_plan,
            activities.evaluate,
            activities.answer_query,
        ],
        max_concurrent_activities=concurrency,
        graceful_shutdown_timeout=settings.executor_grace,
        interceptors=[ActivityLogs()],
    )


async def _trouble(worker: Worker, client: Client, duty: Duty) -> str | None:
    if (trouble := duty.trouble) is not None:
        return trouble
    if not worker.is_running or worker.is_shutdown:
        return "it does not ask Temporal for work"
    return await temporal_trouble(client)


async def _first(*ends: Awaitable[object]) -> None:
    """Returns with the first of several ends, and forgets the others."""
    tasks = [asyncio.ensure_future(end) for end in ends]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _until_idle(pools: RunnerPools, stop: asyncio.Event) -> None:
    idle_since = asyncio.get_running_loop().time()
    while not stop.is_set():
        busy, _ = pools.sizes
        now = asyncio.get_running_loop().time()
        if busy:
            idle_since = now
        elif now - idle_since > _IDLE_SECONDS:
            return
        await asyncio.sleep(_IDLE_POLL_SECONDS)
