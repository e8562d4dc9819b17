"""`tcloud runs`."""

from functools import partial

import click

from tcloud.commands.access import project_api, project_name
from tcloud.commands.evaluations import EVALUATION_FIELDS
from tcloud.output import Format, as_json, output_option, show, show_many
from tcloud.wire.executors import ExecutorKind
from tcloud.wire.runs import RunOptions

__all__ = ["runs"]

_FIELDS = ("run_id", "environment", "status", "trigger", "start_at", "end_at", "error_message")


@click.group()
def runs() -> None:
    """Runs: list, show, start, watch and cancel them."""


@runs.command("list")
@click.option("--environment", metavar="NAME", help="Only runs of this environment.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@output_option
def list_runs(environment: str | None, limit: int, output: Format) -> None:
    """List runs, newest first."""
    with project_api() as api:
        show_many(api.runs(environment, limit), _FIELDS, _FIELDS, output)


@runs.command("show")
@click.argument("run_id")
@output_option
def show_run(run_id: str, output: Format) -> None:
    """Show one run and its evaluations."""
    with project_api() as api:
        run = api.run(run_id)
    evaluations = [as_json(evaluation, EVALUATION_FIELDS) for evaluation in run.evaluations or []]
    show({**as_json(run, _FIELDS), "evaluations": evaluations}, output)


@runs.command("start")
@click.option("--environment", metavar="NAME", default="prod", show_default=True, help="Which environment to run.")
@click.option("--start", help="Only intervals from here on; as in `sqlmesh run`.")
@click.option("--end", help="Only intervals up to here; as in `sqlmesh run`.")
@click.option("--execution-time", help="Run as if it were this time.")
@click.option("--ignore-cron", is_flag=True, help="Run all missing intervals, whatever the crons say.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Watch it to its end.")
@output_option
def start_run(
    environment: str,
    start: str | None,
    end: str | None,
    execution_time: str | None,
    ignore_cron: bool,
    follow: bool,
    output: Format,
) -> None:
    """Start a run now."""
    options = RunOptions(
        environment=environment, start=start, end=end, execution_time=execution_time, ignore_cron=ignore_cron
    )
    with project_api() as api:
        run = api.start_run(options)
        if follow and output is Format.TABLE:
            from tcloud.commands.watching import watch_run

            watch_run(project_name(), run.run_id)
            return
        if follow:
            from tcloud.commands.watching import wait_for_run

            run = wait_for_run(api, run.run_id)
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
