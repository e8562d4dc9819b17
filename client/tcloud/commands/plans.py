"""`tcloud plans`."""

import click

from tcloud.commands.access import project_api, project_name
from tcloud.commands.evaluations import EVALUATION_FIELDS, log_options, show_logs
from tcloud.output import Format, as_json, output_option, show, show_many

__all__ = ["plans"]

_FIELDS = (
    "plan_id",
    "environment",
    "status",
    "queue_position",
    "created_by",
    "start_at",
    "end_at",
    "error_message",
    "stages",
)
_COLUMNS = ("plan_id", "environment", "status", "queue_position", "created_by", "start_at", "end_at", "error_message")


@click.group()
def plans() -> None:
    """Plans: list, show, watch and cancel them, read their logs."""


@plans.command("list")
@click.option("--environment", metavar="NAME", help="Only plans of this environment.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@output_option
def list_plans(environment: str | None, limit: int, output: Format) -> None:
    """List plans, newest first."""
    with project_api() as api:
        show_many(api.plans(environment, limit), _FIELDS, _COLUMNS, output)


@plans.command("show")
@click.argument("plan_id")
@output_option
def show_plan(plan_id: str, output: Format) -> None:
    """Show one plan, its stages and its evaluations."""
    with project_api() as api:
        plan = api.plan(plan_id)
        evaluations = [as_json(evaluation, EVALUATION_FIELDS) for evaluation in api.plan_evaluations(plan_id)]
    show({**as_json(plan, _FIELDS), "evaluations": evaluations}, output)


@plans.command("logs")
@click.argument("plan_id")
@log_options
@output_option
def logs_of_plan(plan_id: str, model: str | None, evaluation_id: str | None, output: Format) -> None:
    """Show what SQLMesh and the models logged while a plan evaluated them."""
    with project_api() as api:
        found = api.plan_evaluations(plan_id, model)
    show_logs(found, model, evaluation_id, f"Plan '{plan_id}'", f"tcloud plans show {plan_id}", output)


@plans.command("cancel")
@click.argument("plan_id")
@output_option
def cancel_plan(plan_id: str, output: Format) -> None:
    """Stop a plan that waits or is being applied."""
    with project_api() as api:
        show(as_json(api.cancel_plan(plan_id), _FIELDS), output)


@plans.command("attach")
@click.argument("plan_id")
def attach_plan(plan_id: str) -> None:
    """Watch a plan from its first event to its end, as `tcloud sqlmesh plan` shows it."""
    from tcloud.commands.watching import watch_plan

    watch_plan(project_name(), plan_id)
