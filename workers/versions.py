"""Versions of the control worker, told apart by Temporal: off unless the settings name a deployment.

All workflows move on to the current version with their next step, as they do without it: their code is patched. What
is gained is that a new version gets no work until somebody says so, and that it can be taken back. Which one is current
is an administrator's decision, but for the first.
"""

import asyncio
from importlib.metadata import version

import structlog
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from workers.connections import CannotStartError, WrongSettingsError
from workers.settings import WorkerSettings

__all__ = ["deployment_of", "make_current", "make_current_if_first", "known_versions"]

_log = structlog.get_logger(__name__)
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.5
_STATUSES = {0: "unknown", 1: "inactive", 2: "current", 3: "ramping", 4: "draining", 5: "drained", 6: "created"}


def deployment_of(settings: WorkerSettings) -> WorkerDeploymentConfig | None:
    """What the worker tells Temporal of its version; None where versions are not told apart."""
    if settings.worker_deployment is None:
        return None
    return WorkerDeploymentConfig(
        WorkerDeploymentVersion(settings.worker_deployment, _build_id(settings)),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )


async def make_current_if_first(settings: WorkerSettings, client: Client) -> None:
    """Makes this worker's version the current one where no version is; without one, nothing would start.

    Raises:
        CannotStartError: If Temporal has not heard of it in time.
    """
    if settings.worker_deployment is None:
        return
    described = await _described(client, settings.worker_deployment, _build_id(settings))
    if not described.worker_deployment_info.routing_config.current_deployment_version.build_id:
        await _set_current(client, described, settings.worker_deployment, _build_id(settings))


async def make_current(settings: WorkerSettings, client: Client) -> str:
    """Makes the version of these settings the current one, of which a worker has to be running; returns its build id.

    Raises:
        CannotStartError: If no worker of it runs.
        WrongSettingsError: If the settings name no deployment.
    """
    deployment, build_id = _deployment(settings), _build_id(settings)
    await _set_current(client, await _described(client, deployment, build_id), deployment, build_id)
    return build_id


async def known_versions(settings: WorkerSettings, client: Client) -> list[tuple[str, str]]:
    """Build ids and their status, the newest first.

    Raises:
        CannotStartError: If Temporal knows of no such deployment.
        WrongSettingsError: If the settings name none.
    """
    described = await _described(client, _deployment(settings), None)
    return [
        (summary.deployment_version.build_id, _STATUSES.get(summary.status, "unknown"))
        for summary in sorted(
            described.worker_deployment_info.version_summaries,
            key=lambda summary: summary.create_time.ToNanoseconds(),
            reverse=True,
        )
    ]


def _deployment(settings: WorkerSettings) -> str:
    if settings.worker_deployment is None:
        raise WrongSettingsError(
            "Versions of control workers are not told apart: set TCLOUD_WORKER_DEPLOYMENT, here and for the workers."
        )
    return settings.worker_deployment


def _build_id(settings: WorkerSettings) -> str:
    return settings.worker_build_id or version("tempomesh")


async def _described(client: Client, deployment: str, build_id: str | None) -> DescribeWorkerDeploymentResponse:
    """The deployment, once Temporal has heard of a version: it does so with the worker's first question for work."""
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=deployment)
    deadline = asyncio.get_running_loop().time() + (_PATIENCE_SECONDS if build_id is not None else 0)
    while True:
        try:
            described = await client.workflow_service.describe_worker_deployment(request)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise CannotStartError(
                    f"Temporal tells nothing of deployment '{deployment}': {error.message}"
                ) from error
        else:
            known = {s.deployment_version.build_id for s in described.worker_deployment_info.version_summaries}
            if build_id is None or build_id in known:
                return described
        if asyncio.get_running_loop().time() > deadline:
            what = f"version '{build_id}' of deployment" if build_id is not None else "deployment"
            raise CannotStartError(f"Temporal knows no {what} '{deployment}': start a `tcloud worker` of it first.")
        await asyncio.sleep(_POLL_SECONDS)


async def _set_current(
    client: Client, described: DescribeWorkerDeploymentResponse, deployment: str, build_id: str
) -> None:
    try:
        await client.workflow_service.set_worker_deployment_current_version(
            SetWorkerDeploymentCurrentVersionRequest(
                namespace=client.namespace,
                deployment_name=deployment,
                build_id=build_id,
                conflict_token=described.conflict_token,
                identity=client.identity,
                ignore_missing_task_queues=True,
            )
        )
    except RPCError as error:
        raise CannotStartError(f"Version '{build_id}' was not made the current one: {error.message}") from error
    _log.info("version_is_current", deployment=deployment, build_id=build_id)
