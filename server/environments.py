"""Environments, as SQLMesh's state and the server's plans know them together."""

from typing import Any

from sqlalchemy import select
from sqlmesh.core.environment import EnvironmentSummary

from server.audit_log import last_times
from server.crons import EnvironmentCrons, next_tick
from server.database import Transaction
from server.errors import ApiError
from server.pauses import forget_pauses_of_others, pauses_by_environment, pauses_in
from server.permissions import ANYWHERE, Globs
from server.scheduling import Scheduled, ScheduledEnvironments
from server.schema import plans
from tcloud.wire.environments import CronGroup, Environment, ScheduledEnvironment
from tcloud.wire.pauses import Pause
from tcloud.wire.statuses import Status

__all__ = [
    "all_environments",
    "environment_crons",
    "find_summary",
    "one_environment",
    "planned_with",
    "scheduled_plans",
    "summary_of",
    "wanted_schedules",
]


def all_environments(
    transaction: Transaction, crons: EnvironmentCrons, scheduled: ScheduledEnvironments, *, within: Globs = ANYWHERE
) -> list[Environment]:
    """The project's environments by name, of these only, without those that have expired."""
    decisions = scheduled.of_all(transaction)
    paused = pauses_by_environment(transaction)
    return [
        _environment(transaction, crons, summary, decisions[summary.name], paused.get(summary.name, []))
        for summary in _living(transaction)
        if within.match(summary.name)
    ]


def one_environment(
    transaction: Transaction, crons: EnvironmentCrons, scheduled: ScheduledEnvironments, name: str
) -> Environment:
    """One environment.

    Raises:
        ApiError: 404 if there is none of that name.
    """
    decision = scheduled.of_all(transaction)[name]
    return _environment(transaction, crons, summary_of(transaction, name), decision, pauses_in(transaction, name))


def environment_crons(transaction: Transaction, crons: EnvironmentCrons, name: str) -> list[CronGroup]:
    """The models of an environment, grouped by cron and timezone.

    Raises:
        ApiError: 404 if there is no environment of that name.
    """
    return list(crons.get(transaction, name, summary_of(transaction, name).plan_id).crons)


def wanted_schedules(
    transaction: Transaction, crons: EnvironmentCrons, scheduled: ScheduledEnvironments
) -> list[ScheduledEnvironment]:
    """The environments that are scheduled, with their crons; what was decided of those that are gone is forgotten."""
    living = _living(transaction)
    names = [summary.name for summary in living]
    scheduled.forget_others(transaction, names)
    forget_pauses_of_others(transaction, names)
    decisions = scheduled.of_all(transaction)
    paused = {name: found[0] for name, found in pauses_by_environment(transaction).items() if found[0].model is None}
    resumed = last_times(transaction, "environment.resume")
    return [
        ScheduledEnvironment(
            environment=summary.name,
            crons=list(crons.get(transaction, summary.name, summary.plan_id).crons),
            pause=paused[summary.name].explained if summary.name in paused else None,
            resumed_at=resumed.get(summary.name),
        )
        for summary in living
        if decisions[summary.name].is_scheduled
    ]


def scheduled_plans(transaction: Transaction, scheduled: ScheduledEnvironments) -> dict[str, str]:
    """The plan ids of the environments that are scheduled and that no plan is changing."""
    decisions = scheduled.of_all(transaction)
    return {
        summary.name: summary.plan_id
        for summary in _living(transaction)
        if summary.finalized_ts is not None and decisions[summary.name].is_scheduled
    }


def summary_of(transaction: Transaction, name: str) -> EnvironmentSummary:
    """SQLMesh's summary of an environment.

    Raises:
        ApiError: 404 if there is none of that name.
    """
    if (found := find_summary(transaction, name)) is not None:
        return found
    raise ApiError(
        404, "TM-ENVIRONMENT", f"Environment '{name}' was not found. Create it with `tcloud sqlmesh plan {name}`."
    )


def find_summary(transaction: Transaction, name: str) -> EnvironmentSummary | None:
    """SQLMesh's summary of an environment, if there is one of that name."""
    return next((summary for summary in transaction.state.get_environments_summary() if summary.name == name), None)


def planned_with(transaction: Transaction, summary: EnvironmentSummary) -> dict[str, Any]:
    """What is known of the plan that the environment is of, or else of its last successful one."""
    row = transaction.connection.execute(
        select(plans.c.gateway, plans.c.default_catalog, plans.c.evaluation_policy, plans.c.python_environment)
        .where(
            plans.c.project == transaction.project.namespace,
            plans.c.environment == summary.name,
            (plans.c.plan_id == summary.plan_id) | (plans.c.status == Status.SUCCESS.value),
        )
        .order_by((plans.c.plan_id == summary.plan_id).desc(), plans.c.created_at.desc())
        .limit(1)
    ).first()
    return dict(row._mapping) if row is not None else {}


def _living(transaction: Transaction) -> list[EnvironmentSummary]:
    summaries = [summary for summary in transaction.state.get_environments_summary() if not summary.expired]
    return sorted(summaries, key=lambda summary: summary.name)


def _environment(
    transaction: Transaction,
    crons: EnvironmentCrons,
    summary: EnvironmentSummary,
    decision: Scheduled,
    pauses: list[Pause],
) -> Environment:
    facts = crons.get(transaction, summary.name, summary.plan_id)
    is_paused = any(pause.model is None for pause in pauses)
    return Environment(
        name=summary.name,
        status="updating" if summary.finalized_ts is None else "ready",
        plan_id=summary.plan_id,
        models=facts.models,
        scheduled=decision.is_scheduled,
        scheduled_by=decision.decided_by,
        scheduled_at=decision.decided_at,
        paused=is_paused,
        pauses=pauses,
        next_run_at=next_tick(facts.crons) if decision.is_scheduled and not is_paused else None,
        **planned_with(transaction, summary),
    )
