"""`tcloud runs`."""

from datetime import UTC, datetime
from functools import partial

import click

from tcloud.api.client import Api
from tcloud.commands.access import project_api, project_name
from tcloud.commands.evaluations import (
    EVALUATION_FIELDS,
    evaluation_table,
    log_options,
    show_logs,
    summary_of,
    worst_first,
)
from tcloud.output import Format, as_json, output_option, show, show_many
from tcloud.wire.executors import ExecutorKind
from tcloud.wire.runs import RunOptions, RunTrigger
from tcloud.wire.statuses import Status

__all__ = ["runs"]

_FIELDS = ("run_id", "environment", "status", "trigger", "start_at", "end_at", "error_message")
_STATUSES = tuple(status.value for status in Status)
_TRIGGERS = tuple(trigger.value for trigger in RunTrigger)


def _moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    """A time: ISO 8601, or as SQLMesh reads it (`1 day ago`); UTC unless it says otherwise."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        from sqlmesh.utils.date import to_datetime

        try:
            moment = to_datetime(value)
        except (ValueError, OverflowError) as error:
            raise click.BadParameter(f"'{value}' is not a time, as are '2026-03-01 09:00' and '1 day ago'.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.group()
def runs() -> None:
    """Runs: list, show, start, watch and cancel them, read their logs."""


@runs.command("list")
@click.option("--environment", metavar="NAME", help="Only runs of this environment.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(_STATUSES),
    help="Only with this status; repeatable.",
)
@click.option("--model", metavar="NAME", help="Only runs that evaluated this model, or left it out.")
@click.option("--trigger", type=click.Choice(_TRIGGERS), help="Only runs that were started so.")
@click.option("--since", metavar="TIME", callback=_moment, help="Only runs that started then or later.")
@click.option("--until", metavar="TIME", callback=_moment, help="Only runs that started before.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@output_option
def list_runs(
    environment: str | None,
    statuses: tuple[str, ...],
    model: str | None,
    trigger: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    output: Format,
) -> None:
    """List runs, newest first."""
    with project_api() as api:
        found = api.runs(environment, limit, statuses=statuses, model=model, trigger=trigger, since=since, until=until)
    show_many(found, _FIELDS, _FIELDS, output)


@runs.command("show")
@click.argument("run_id")
@output_option
def show_run(run_id: str, output: Format) -> None:
    """Show one run and its evaluations, those first that did not succeed."""
    with project_api() as api:
        run = api.run(run_id)
    evaluations = run.evaluations or []
    if output is Format.JSON:
        listed = [as_json(evaluation, EVALUATION_FIELDS) for evaluation in evaluations]
        show({**as_json(run, _FIELDS), "evaluations": listed}, output)
        return
    head = {**as_json(run, _FIELDS), "created_by": run.created_by, "evaluations": summary_of(evaluations)}
    show({name: value for name, value in head.items() if name != "created_by" or value}, output)
    if evaluations:
        click.echo()
        evaluation_table(worst_first(evaluations))


@runs.command("logs")
@click.argument("run_id")
@log_options
@output_option
def logs_of_run(run_id: str, model: str | None, evaluation_id: str | None, output: Format) -> None:
    """Show what SQLMesh and the models logged while a run evaluated them."""
    with project_api() as api:
        found = api.run_evaluations(run_id, model)
    show_logs(found, model, evaluation_id, f"Run '{run_id}'", f"tcloud runs show {run_id}", output)


@runs.command("start")
@click.option("--environment", metavar="NAME", default="prod", show_default=True, help="Which environment to run.")
@click.option("--start", help="Only intervals from here on; as in `sqlmesh run`.")
@click.option("--end", help="Only intervals up to here; as in `sqlmesh run`.")
@click.option("--execution-time", help="Run as if it were this time.")
@click.option("--ignore-cron", is_flag=True, help="Run all missing intervals, whatever the crons say.")
@click.option(
    "--select-model",
    "selections",
    metavar="SELECTION",
    multiple=True,
    help="Only these models and what is upstream of them; as in `sqlmesh run`; repeatable.",
)
@click.option("--no-auto-upstream", is_flag=True, help="With --select-model: leave out what is upstream.")
@click.option(
    "--exit-on-env-update",
    type=int,
    metavar="CODE",
    help="Stop, with this exit code, if a plan changes the environment.",
)
@click.option("--ignore-pause", is_flag=True, help="Run whatever is paused; takes the role admin.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Watch it to its end.")
@output_option
def start_run(
    environment: str,
    start: str | None,
    end: str | None,
    execution_time: str | None,
    ignore_cron: bool,
    selections: tuple[str, ...],
    no_auto_upstream: bool,
    exit_on_env_update: int | None,
    ignore_pause: bool,
    follow: bool,
    output: Format,
) -> None:
    """Start a run now.

    It evaluates what is missing. To evaluate again what is done, restate it: `tcloud sqlmesh plan --restate-model`.
    """
    with project_api() as api:
        options = RunOptions(
            environment=environment,
            start=start,
            end=end,
            execution_time=execution_time,
            ignore_cron=ignore_cron,
            select_models=_selected(api, environment, selections, no_auto_upstream) if selections else None,
            exit_on_env_update=bool(exit_on_env_update),
            ignore_pause=ignore_pause,
        )
        run = api.start_run(options)
        if follow and output is Format.TABLE:
            from tcloud.commands.watching import watch_run

            watch_run(project_name(), run.run_id, exit_on_env_update)
            return
        if follow:
            from tcloud.commands.watching import wait_for_run

            run = wait_for_run(api, run.run_id, exit_on_env_update)
        else:
            from tcloud.api.waiting import say_if_none

            say_if_none(api, ExecutorKind.RUN, partial(click.echo, err=True))
    show(as_json(run, _FIELDS), output)


@runs.command("cancel")
@click.argument("run_id")
@output_option
def cancel_run(run_id: str, output: Format) -> None:
    """Stop a run."""
    with project_api() as api:
        show(as_json(api.cancel_run(run_id), _FIELDS), output)


@runs.command("attach")
@click.argument("run_id")
def attach_run(run_id: str) -> None:
    """Watch a run from its first event to its end, as `tcloud sqlmesh run` shows it."""
    from tcloud.commands.watching import watch_run

    watch_run(project_name(), run_id)


def _selected(api: Api, environment: str, selections: tuple[str, ...], no_auto_upstream: bool) -> list[str]:
    from tcloud.scheduler.selection import select_models
    from tcloud.scheduler.state import cloud_state

    return select_models(
        cloud_state(api),
        environment,
        selections,
        default_catalog=api.environment(environment).default_catalog,
        no_auto_upstream=no_auto_upstream,
    )
