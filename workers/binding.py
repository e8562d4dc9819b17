"""Every line that is logged while an activity is executed says which project, environment, plan or run it is about."""

from typing import Any

import structlog
from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

__all__ = ["ActivityLogs"]

_PLAN, _RUN = "plan/", "run/"


class ActivityLogs(Interceptor):
    """Binds ids to structlog's context for the time of each activity; for every `Worker`."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 (Temporal's name)
        return _Bound(next)


class _Bound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 (Temporal's name)
        with structlog.contextvars.bound_contextvars(**_ids(activity.info(), input.args[0] if input.args else None)):
            return await super().execute_activity(input)


def _ids(info: activity.Info, argument: object) -> dict[str, object]:
    ids: dict[str, object] = {"project": info.namespace, "activity": info.activity_type, "attempt": info.attempt}
    for name in ("environment", "plan_id", "run_id"):
        value = getattr(argument, name, None)
        if isinstance(value, str):
            ids[name] = value
    workflow_id = info.workflow_id or ""
    if workflow_id.startswith(_PLAN):
        _, environment, plan_id = workflow_id.split("/", 2)
        ids |= {"environment": environment, "plan_id": plan_id}
    elif workflow_id.startswith(_RUN):
        ids["run_id"] = workflow_id.removeprefix(_RUN)
    return ids
