"""Applying a plan: submit it, and show what the executors do with it."""

from collections.abc import Callable

from sqlmesh import __version__ as sqlmesh_version
from sqlmesh.core.console import Console
from sqlmesh.core.plan import EvaluatablePlan, PlanEvaluator
from sqlmesh.core.state_sync import StateReader
from sqlmesh.utils.errors import CircuitBreakerError, ConflictingPlanError, PlanError

from tcloud.api.events import End
from tcloud.api.waiting import telling_of_executors
from tcloud.errors import ConflictError
from tcloud.scheduler.following import SnapshotResolver, detachable, show_events, wait_for_turn
from tcloud.scheduler.session import Session
from tcloud.wire.executors import ExecutorKind
from tcloud.wire.policies import EvaluationPolicy
from tcloud.wire.statuses import Status

__all__ = ["RemotePlanEvaluator", "raise_for_plan_end"]


class RemotePlanEvaluator(PlanEvaluator):
    """Has a plan applied by the project's executors.

    Args:
        session: The project's server.
        console: Where SQLMesh would show the progress of a plan that it applies itself.
        state_reader: The project's state.
        gateway: The gateway that was selected when the plan was made.
        default_catalog: That gateway's default catalog.
        evaluation_policy: What the project asks of evaluations.
        python_version: The Python that the project asks for; None leaves it to the executors.
    """

    def __init__(
        self,
        session: Session,
        console: Console,
        state_reader: StateReader,
        gateway: str,
        default_catalog: str | None,
        evaluation_policy: EvaluationPolicy,
        python_version: str | None = None,
    ):
        self._api = session.api
        self._console = console
        self._state_reader = state_reader
        self._gateway = gateway
        self._default_catalog = default_catalog
        self._evaluation_policy = evaluation_policy
        self._python_version = python_version

    def evaluate(self, plan: EvaluatablePlan, circuit_breaker: Callable[[], bool] | None = None) -> None:
        """Submits the plan and follows it to its end; a plan that was submitted before is only followed.

        Raises:
            PlanError: If it is refused, fails, or is cancelled.
            CircuitBreakerError: If the circuit breaker says so before the plan is submitted.
            Detached: On Ctrl-C; the plan goes on.
            TcloudError: If the server cannot be reached or does not allow it.
        """
        if circuit_breaker and circuit_breaker():
            raise CircuitBreakerError
        self._console.start_plan_evaluation(plan)
        try:
            raise_for_plan_end(plan.plan_id, self._apply(plan))
        finally:
            self._console.stop_plan_evaluation()

    def _apply(self, plan: EvaluatablePlan) -> End:
        try:
            submitted = self._api.submit_plan(
                plan.json(),
                gateway=self._gateway,
                default_catalog=self._default_catalog,
                sqlmesh_version=sqlmesh_version,
                evaluation_policy=None if self._evaluation_policy.is_empty else self._evaluation_policy,
                python_version=self._python_version,
            )
        except ConflictError as error:
            kind = ConflictingPlanError if error.error_type == ConflictingPlanError.__name__ else PlanError
            raise kind(str(error)) from error
        resolver = SnapshotResolver(
            self._state_reader,
            expected={s.snapshot_id for s in plan.environment.snapshots},
            known=plan.new_snapshots,
        )
        with (
            detachable(self._console, f"Plan '{plan.plan_id}'", "plans", plan.plan_id),
            telling_of_executors(self._api, ExecutorKind.APPLY, self._console.log_status_update),
        ):
            wait_for_turn(self._api, submitted, self._console)
            return show_events(self._api.plan_events(plan.plan_id), self._console, resolver)


def raise_for_plan_end(plan_id: str, end: End) -> None:
    """Tells a plan that did not succeed as SQLMesh tells it.

    Raises:
        PlanError: If the plan failed or was cancelled.
    """
    match end.status:
        case Status.SUCCESS:
            return
        case Status.FAILED:
            raise PlanError(end.error_message or "Plan application failed.")
        case status:
            reason = end.error_message or "it was cancelled"
            raise PlanError(f"Plan '{plan_id}' was not applied to its end ({status}): {reason}")
