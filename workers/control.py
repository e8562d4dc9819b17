"""The control worker: all workflow code, and the activities that touch only the control plane."""

import asyncio
import os
import socket
from datetime import timedelta

import structlog
from temporalio.service import RPCError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.control import ServerBackedControlActivities
from activities.schedules import EnvironmentSchedules, MaintenanceSchedule
from tcloud.api.control import ControlApi
from workers.binding import ActivityLogs
from workers.connections import bootstrap, connect_temporal, is_renewed, keep_signed_in
from workers.settings import WorkerSettings
from workflows.environment import EnvironmentWorkflow
from workflows.interfaces import CONTROL_QUEUE
from workflows.maintenance import MaintenanceWorkflow
from workflows.plan import PlanWorkflow
from workflows.query import QueryWorkflow
from workflows.run import RunWorkflow

__all__ = ["serve_control"]

_log = structlog.get_logger(__name__)
_GRACE = timedelta(seconds=10)
_PASSED_THROUGH = ("workflows", "pydantic", "pydantic_core", "annotated_types")


async def serve_control(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Serves the control queue until it is told to stop.

    Raises:
        CannotStartError: If the server or Temporal cannot be reached, or the token is refused.
    """
    identity = f"worker@{socket.gethostname()}:{os.getpid()}"
    async with ControlApi(settings.url, settings.credentials) as api:
        known = await bootstrap(api.bootstrap, settings.url, settings.start_patience)
        client = await connect_temporal(known, identity)
        activities = ServerBackedControlActivities(api, EnvironmentSchedules(client))
        worker = Worker(
            client,
            task_queue=CONTROL_QUEUE,
            workflows=[EnvironmentWorkflow, PlanWorkflow, RunWorkflow, MaintenanceWorkflow, QueryWorkflow],
            activities=[
                activities.record_plan_status,
                activities.record_stage_status,
                activities.hold_tables,
                activities.record_outcome,
                activities.settle_pauses,
                activities.record_run_status,
                activities.begin_query,
                activities.record_query_status,
                activities.sync_schedules,
                activities.reconcile_schedules,
                activities.has_later_tick,
                activities.has_waiting_tick,
            ],
            workflow_runner=SandboxedWorkflowRunner(
                restrictions=SandboxRestrictions.default.with_passthrough_modules(*_PASSED_THROUGH)
            ),
            graceful_shutdown_timeout=_GRACE,
            interceptors=[ActivityLogs()],
        )
        async with worker:
            background = [asyncio.create_task(keep_signed_in(client, api.bootstrap))] if is_renewed(known) else []
            maintenance = MaintenanceSchedule(client, settings.maintenance_interval)
            await _ensure_maintenance(maintenance)
            background.append(asyncio.create_task(maintenance.keep()))
            try:
                _log.info("ready", queue=CONTROL_QUEUE, project=known.project, identity=identity)
                await stop.wait()
                _log.info("stopping")
            finally:
                for task in background:
                    task.cancel()


async def _ensure_maintenance(schedule: MaintenanceSchedule) -> None:
    try:
        await schedule.ensure()
    except RPCError as error:
        # Plans and runs do without it; it is made as soon as Temporal fares better.
        _log.error("maintenance_not_scheduled", reason=error.message)
