"""An executor: evaluates models, or applies plans, in runner processes of its own."""

import asyncio
import os
import secrets
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

import httpx
import structlog
from dotenv import dotenv_values
from pydantic import ValidationError
from temporalio.client import Client
from temporalio.worker import Worker

from activities.bundles import UnitBundles
from activities.connections import ConnectionTests
from activities.executions import Executions
from activities.executor import RunnerBackedActivities
from activities.leases import LeaseKeeper
from activities.pythons import Pythons
from activities.runner_calls import RunnerCalls
from activities.turns import TurnQueue
from activities.units import UnitEvaluations
from envmanager.connections import ManagedConnections
from envmanager.environments import OWN, runner_variables
from envmanager.errors import ZygoteFailedError
from envmanager.pools import RunnerLimits, RunnerPools
from envmanager.resolving import check_index, drivers_of
from envmanager.store import EnvironmentStore
from tcloud.api.executor import ExecutorApi, RefusedError
from tcloud.wire.executors import Bootstrap, ExecutorHeartbeat, ExecutorKind, HeartbeatAnswer
from workers.binding import ActivityLogs
from workers.connections import (
    CannotStartError,
    WrongSettingsError,
    bootstrap,
    connect_temporal,
    is_renewed,
    keep_signed_in,
)
from workers.duty import READY, Duty
from workers.health import Health, serving_health, start_metrics, temporal_trouble
from workers.pythons import PythonKeeper
from workers.queues import GatewayQueues
from workers.reading import EnvironmentReader
from workers.served import ServedGateways, own_gateways
from workers.settings import ExecutorSettings
from workflows.interfaces import ExecutorQueue, queue_of

__all__ = ["check_executor", "serve_executor"]

_log = structlog.get_logger(__name__)
_HEARTBEAT_SECONDS = 5.0
_STOPPING = "stopping"
_IDLE_SECONDS = 5.0
_IDLE_POLL_SECONDS = 0.5
_PREFIX = "SQLMESH__"


async def serve_executor(kind: ExecutorKind, settings: ExecutorSettings, stop: asyncio.Event, *, once: bool) -> None:
    """Serves the queue of a kind until it is told to stop, or, with `once`, until it has had nothing to do for a while.

    Raises:
        CannotStartError: If the server, Temporal or a gateway is out of reach, or versions differ.
    """
    start_metrics(settings)
    health = Health()
    with serving_health(settings, health):
        async with _prepared(kind, settings) as (api, known, store, pools, served):
            await _serve(kind, settings, api, known, store, pools, served, health, stop, once=once)


async def _serve(
    kind: ExecutorKind,
    settings: ExecutorSettings,
    api: ExecutorApi,
    known: Bootstrap,
    store: EnvironmentStore,
    pools: RunnerPools,
    served: ServedGateways,
    health: Health,
    stop: asyncio.Event,
    *,
    once: bool,
) -> None:
    identity = f"{kind.value}@{socket.gethostname()}:{os.getpid()}"
    await served.start()
    client = await connect_temporal(known, identity)
    leases = LeaseKeeper(api, identity)
    concurrency = settings.executor_concurrency or served.concurrent_tasks
    pythons = _pythons(api, store, pools, known, served)
    runners = RunnerCalls(pythons, api, keeps_home=_keeps_home(settings, known, served))
    units = UnitEvaluations(TurnQueue(api), runners, leases, identity, settings.executor_evaluation_timeout)
    activities = _activities(api, runners, pythons, units, served)
    heartbeat = _heartbeat(kind, identity, known)
    make_worker = partial(_worker, client, settings, activities)
    queues = GatewayQueues(kind, make_worker, settings.executor_concurrency)
    duty = Duty(known.sqlmesh_version)
    keeper = PythonKeeper(pythons, store, settings.executor_python_keep, settings.executor_python_max_bytes)
    background = [
        asyncio.create_task(leases.run()),
        asyncio.create_task(keeper.run()),
        asyncio.create_task(_report(api, heartbeat, served, queues, duty, keeper, EnvironmentReader(runners))),
    ]
    if is_renewed(known):
        background.append(asyncio.create_task(keep_signed_in(client, partial(api.bootstrap, kind))))
    try:
        while not stop.is_set():
            async with make_worker(queue_of(ExecutorQueue(kind.value), None), concurrency) as worker:
                queues.open()
                queues.follow(served.gateways)
                health.ready_means(partial(_trouble, worker, queues, client, duty))
                duty.server_has((await api.register(served.add_to(heartbeat))).sqlmesh_version)
                _log.info("ready", queue=kind.value, project=known.project, identity=identity, concurrency=concurrency)
                await _first(_until_idle(pools, stop) if once else stop.wait(), duty.over(), _ended(background))
                _log.info("stopping", grace_seconds=settings.executor_grace.total_seconds())
                is_over = once or stop.is_set() or any(task.done() for task in background)
                status = _STOPPING if is_over else duty.status
                with suppress(httpx.HTTPError, RefusedError):
                    await api.register(served.add_to(heartbeat).model_copy(update={"status": status}))
                # All of them at once: each may take all of the grace.
                ending = asyncio.create_task(queues.close())
            await ending
            for task in background:
                if task.done():
                    # An executor that reports nothing or renews nothing is of no use, whatever else it can.
                    task.result()
            if once:
                break
            # One that is outdated waits: it goes on if the server is taken back to the version before.
            await _first(stop.wait(), duty.again(), _ended(background))
    finally:
        for task in background:
            task.cancel()
        await queues.close()


async def check_executor(kind: ExecutorKind, settings: ExecutorSettings) -> list[str]:
    """Says what of an executor's surroundings is in order, a line each.

    Raises:
        CannotStartError: At the first thing that is not.
    """
    async with _prepared(kind, settings) as (_, known, store, _, served):
        lines = [f"server {settings.url}: ok, SQLMesh {known.sqlmesh_version}"]
        client = await connect_temporal(known, f"{kind.value}-check")
        assert known.temporal is not None  # noqa: S101 - `bootstrap` refuses an answer without it
        lines.append(f"Temporal {client.service_client.config.target_host}, namespace {known.temporal.namespace}: ok")
        await served.start()
        lines.extend(served.lines())
        trouble = await check_index(store.uv)
        lines.append(f"package index: {f'not reached, {trouble}' if trouble else 'ok'}")
        return lines


@asynccontextmanager
async def _prepared(
    kind: ExecutorKind, settings: ExecutorSettings
) -> AsyncIterator[tuple[ExecutorApi, Bootstrap, EnvironmentStore, RunnerPools, ServedGateways]]:
    variables = {**_from_env_file(settings.env_file), **os.environ}
    async with ExecutorApi(settings.url, settings.credentials) as api:
        known = await bootstrap(partial(api.bootstrap, kind), settings.url, settings.start_patience)
        _require_version(known)
        managed = ManagedConnections(known.project, own_gateways(variables))
        async with _runners(settings, variables, managed) as (store, pools):
            yield api, known, store, pools, ServedGateways(api, pools, managed)


@asynccontextmanager
async def _runners(
    settings: ExecutorSettings, variables: dict[str, str], managed: ManagedConnections
) -> AsyncIterator[tuple[EnvironmentStore, RunnerPools]]:
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
    pools = RunnerPools(store.hold, runner_variables(variables), scratch, limits, managed)
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
    api: ExecutorApi, store: EnvironmentStore, pools: RunnerPools, known: Bootstrap, served: ServedGateways
) -> Pythons:
    return Pythons(
        api,
        store,
        pools,
        drivers=lambda: drivers_of(served.types),
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


def _heartbeat(kind: ExecutorKind, identity: str, known: Bootstrap) -> ExecutorHeartbeat:
    return ExecutorHeartbeat(
        identity=identity,
        kind=kind,
        host=socket.gethostname(),
        version=version("tempomesh"),
        sqlmesh_version=known.sqlmesh_version,
        python_environments=[OWN],
    )


async def _report(
    api: ExecutorApi,
    heartbeat: ExecutorHeartbeat,
    served: ServedGateways,
    queues: GatewayQueues,
    duty: Duty,
    keeper: PythonKeeper,
    environments: EnvironmentReader,
) -> None:
    async def report() -> HeartbeatAnswer | None:
        try:
            reported = await keeper.add_to(served.add_to(heartbeat))
            return await api.register(reported.model_copy(update={"status": duty.status}))
        except (httpx.HTTPError, RefusedError, ValidationError) as error:
            # What is no answer of the server's is somebody's in between, and passes.
            is_quoting = isinstance(error, ValidationError)
            reason = type(error).__name__ if is_quoting else str(error) or type(error).__name__
            duty.not_reported(reason)
            _log.warning("heartbeat_not_sent", reason=reason)
            return None

    async def follow(vault: str | None) -> None:
        is_changed = await served.follow(vault)
        queues.follow(served.gateways)
        if is_changed:
            # Whoever added a connection waits for somebody to serve it.
            await report()

    async with asyncio.TaskGroup() as reading:
        following: asyncio.Task[None] | None = None
        last: asyncio.Task[None] | None = None
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            answer = await report()
            if answer is None:
                continue
            duty.server_has(answer.sqlmesh_version)
            if following is None or following.done():
                following = reading.create_task(follow(answer.connections))
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
    served: ServedGateways,
) -> RunnerBackedActivities:
    executions = Executions(api)
    bundles = UnitBundles(executions, units)
    tests = ConnectionTests(api, runners, served.managed)
    return RunnerBackedActivities(
        api, runners, pythons, executions, bundles, tests, gateways=served, notifies_of=served.notifies_of
    )


def _keeps_home(settings: ExecutorSettings, known: Bootstrap, served: ServedGateways) -> bool:
    if settings.executor_keep_home is not None:
        return settings.executor_keep_home
    # Whoever keeps connections in a network of their own does not expect what is read with them to leave it.
    is_outside = known.temporal is not None and known.temporal.is_edge and served.managed.are_brought
    if is_outside:
        _log.info("keeps_home", hint="TCLOUD_EXECUTOR_KEEP_HOME=false lets logs, errors and rows go to the server")
    return is_outside


def _worker(
    client: Client, settings: ExecutorSettings, activities: RunnerBackedActivities, queue: str, concurrency: int
) -> Worker:
    return Worker(
        client,
        task_queue=queue,
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


async def _trouble(worker: Worker, queues: GatewayQueues, client: Client, duty: Duty) -> str | None:
    if (trouble := duty.trouble) is not None:
        return trouble
    if not worker.is_running or worker.is_shutdown:
        return "it does not ask Temporal for work"
    if (trouble := queues.trouble) is not None:
        return trouble
    return await temporal_trouble(client)


async def _first(*ends: Awaitable[object]) -> None:
    """Returns with the first of several ends, and forgets the others."""
    tasks = [asyncio.ensure_future(end) for end in ends]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Returns with the end of one of these tasks, which go on for ever unless one fails."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


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
