"""Evaluations and runs, in the shapes of the public API."""

from server.public.links import Links
from server.public.shapes import PublicAudit, PublicEvaluation, PublicRun
from tcloud.wire.runs import Evaluation, Run
from tcloud.wire.statuses import Status

__all__ = ["public_evaluation", "public_run"]


def public_run(run: Run, links: Links) -> PublicRun:
    """A run."""
    return PublicRun(
        environment=run.environment,
        run_id=run.run_id,
        start_at=run.start_at,
        end_at=run.end_at,
        error_message=run.error_message,
        status=run.status,
        link=links.run(run.environment, run.run_id),
    )


def public_evaluation(evaluation: Evaluation, links: Links, environment: str) -> PublicEvaluation:
    """An evaluation of a run or plan of an environment."""
    group, owner_id = ("runs", evaluation.run_id) if evaluation.run_id else ("plans", evaluation.plan_id or "")
    where = (environment, group, owner_id, evaluation.model, evaluation.evaluation_id)
    link, log_link = links.evaluation(*where), links.log(*where)
    start, end = evaluation.interval_start, evaluation.interval_end
    return PublicEvaluation(
        evaluation_id=evaluation.evaluation_id,
        run_id=evaluation.run_id,
        plan_id=evaluation.plan_id,
        node_name=evaluation.model,
        start_at=evaluation.start_at,
        end_at=evaluation.end_at,
        error_message=evaluation.error_message,
        log=evaluation.log,
        status=evaluation.status,
        link=link,
        log_link=log_link,
        audits=[
            PublicAudit(
                name=audit.name,
                execution_time=evaluation.end_at,
                interval_start=start,
                interval_end=end,
                status=audit.status,
                link=link,
                log_link=log_link,
            )
            for audit in evaluation.audits
            # What was not audited (no intervals, an audit that is switched off) has no outcome to be shown.
            if start is not None and end is not None and audit.status in (Status.SUCCESS, Status.FAILED)
        ],
    )
