"""Watching a plan or a run without its project: SQLMesh's console, fed from the server."""

from functools import partial

import click
from sqlmesh.core.console import configure_console, get_console

from tcloud.api.client import Api
from tcloud.api.events import End
from tcloud.api.waiting import telling_of_executors
from tcloud.errors import WorkFailedError
from tcloud.scheduler.following import SnapshotResolver, detachable, show_events, wait_for_turn
from tcloud.scheduler.runs import log_nothing_to_do
from tcloud.scheduler.session import current_session, select_project
from tcloud.scheduler.state import cloud_state
from tcloud.wire.executors import ExecutorKind
from tcloud.wire.runs import Run
from tcloud.wire.statuses import Status

__all__ = ["wait_for_run", "watch_plan", "watch_run"]


def watch_plan(project: str | None, plan_id: str) -> None:
    """Shows a plan from its first event to its end.

    Raises:
        WorkFailedError: If it failed or was cancelled.
    """
    api = _connect(project)
    plan = api.plan(plan_id)
    console = get_console()
    state = cloud_state(api)
    with (
        detachable(console, f"Plan '{plan_id}'", "plans", plan_id),
        telling_of_executors(api, ExecutorKind.APPLY, console.log_status_update),
    ):
        wait_for_turn(api, plan, console)
        end = show_events(api.plan_events(plan_id), console, SnapshotResolver(state))
    if end.status != Status.SUCCESS:
        raise WorkFailedError(f"Plan '{plan_id}': {_reason(end)}")


def watch_run(project: str | None, run_id: str, exit_on_env_update: int | None = None) -> None:
    """Shows a run from its first event to its end.

    Args:
        project: A project of `tcloud.yaml`, None for the default one.
        run_id: The run.
        exit_on_env_update: The exit code if a plan that changed the environment stopped it.

    Raises:
        WorkFailedError: If it failed, was cancelled, or a plan stopped it.
    """
    api = _connect(project)
    run = api.run(run_id)
    console = get_console()
    state = cloud_state(api)
    environment = state.get_environment(run.environment)
    expected = {s.snapshot_id for s in environment.snapshots} if environment else set()
    with (
        detachable(console, f"Run '{run_id}'", "runs", run_id),
        telling_of_executors(api, ExecutorKind.RUN, console.log_status_update),
    ):
        end = show_events(api.run_events(run_id), console, SnapshotResolver(state, expected))
    match end.status:
        case Status.SUCCESS:
            console.log_success(f"Run finished for environment '{run.environment}'")
        case "nothing_to_do":
            log_nothing_to_do(console, state.get_snapshots(expected).values())
        case Status.SKIPPED:
            console.log_status_update(end.error_message or "Nothing was left to do.")
        case _:
            raise _failure(run_id, end, exit_on_env_update)


def wait_for_run(api: Api, run_id: str, exit_on_env_update: int | None = None) -> Run:
    """Waits for the end of a run without showing anything but, on stderr, that there is no executor for it.

    Raises:
        WorkFailedError: If it failed, was cancelled, or a plan stopped it; its exit code is then `exit_on_env_update`.
    """
    with telling_of_executors(api, ExecutorKind.RUN, partial(click.echo, err=True)):
        for event in api.run_events(run_id):
            if isinstance(event, End) and event.status not in (Status.SUCCESS, Status.SKIPPED, "nothing_to_do"):
                raise _failure(run_id, event, exit_on_env_update)
    return api.run(run_id)


def _connect(project: str | None) -> Api:
    select_project(project, ())
    configure_console()
    return current_session().api


def _failure(run_id: str, end: End, exit_on_env_update: int | None) -> WorkFailedError:
    error = WorkFailedError(f"Run '{run_id}': {_reason(end)}")
    if end.status == Status.PREEMPTED and exit_on_env_update:
        error.exit_code = exit_on_env_update
    return error


def _reason(end: End) -> str:
    return end.error_message or end.status
