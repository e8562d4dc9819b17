"""Puts right, every few minutes, what has come apart."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.interfaces import ControlActivities
    from workflows.payloads import MaintenanceInput, MaintenanceOutcome
    from workflows.policies import MAINTENANCE_DUTY

__all__ = ["MaintenanceWorkflow"]


@workflow.defn
class MaintenanceWorkflow:
    """One round of a project's maintenance, started by the schedule `maintenance`; the place for all such duties.

    A round that fails is not mended by anybody: the next one does it.
    """

    @workflow.run
    async def run(self, maintenance: MaintenanceInput) -> MaintenanceOutcome:
        outcome = await workflow.execute_activity_method(
            ControlActivities.reconcile_schedules,
            maintenance,
            **MAINTENANCE_DUTY,
        )
        workflow.set_current_details(_details(outcome))
        return outcome


def _details(outcome: MaintenanceOutcome) -> str:
    lines = [
        f"{what}: {', '.join(f'`{name}`' for name in names)}"
        for what, names in (
            ("Schedules that were missing", outcome.created),
            ("Schedules that had been changed", outcome.updated),
            ("Schedules that were too many", outcome.deleted),
            ("Paused in Temporal by somebody, and left so", outcome.paused),
            ("Environments that got a run, because they had missed a tick", outcome.caught_up),
        )
        if names
    ]
    return "\n\n".join(lines) or "Nothing to put right."
