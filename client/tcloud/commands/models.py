"""`tcloud models`."""

import click

from tcloud.commands.access import project_api
from tcloud.commands.evaluations import evaluation_table
from tcloud.output import Format, output_option, show_many

__all__ = ["models"]

_FIELDS = (
    "evaluation_id",
    "model",
    "run_id",
    "plan_id",
    "environment",
    "interval_start",
    "interval_end",
    "status",
    "attempt",
    "executor",
    "start_at",
    "end_at",
    "error_message",
)


@click.group()
def models() -> None:
    """Models: what was evaluated, over all runs and plans."""


@models.command("history")
@click.argument("model")
@click.option("--environment", metavar="NAME", help="Only evaluations of runs and plans of this environment.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@output_option
def history(model: str, environment: str | None, limit: int, output: Format) -> None:
    """List the evaluations of MODEL, newest first, whichever run or plan they belong to."""
    with project_api() as api:
        found = api.model_history(model, environment, limit)
    if output is Format.JSON:
        show_many(found, _FIELDS, _FIELDS, output)
        return
    evaluation_table(found, with_owner=True)
