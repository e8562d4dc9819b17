"""`tcloud pauses`."""

import click

from tcloud.commands.access import project_api
from tcloud.commands.pausing import (
    PAUSE_FIELDS,
    End,
    catch_up_option,
    reason_option,
    say_paused,
    say_resumed,
    until_option,
)
from tcloud.output import Format, as_json, output_option, show, show_many
from tcloud.wire.pausing import ModelPauseRequest

__all__ = ["pauses"]


@click.group()
def pauses() -> None:
    """Pauses: runs leave out what is paused, plans take no notice."""


@pauses.command("list")
@click.option("--environment", metavar="NAME", help="Only pauses of this environment.")
@output_option
def list_pauses(environment: str | None, output: Format) -> None:
    """List the pauses in force, of whole environments and of models."""
    with project_api() as api:
        show_many(api.pauses(environment), PAUSE_FIELDS, PAUSE_FIELDS, output)


@pauses.command("create")
@click.option("--environment", metavar="NAME", default="prod", show_default=True, help="In which environment.")
@click.option(
    "--model",
    metavar="SELECTION",
    required=True,
    help="A model's name, or a selection as in `sqlmesh run --select-model`: tag:name, +model, model+, wildcards.",
)
@reason_option
@until_option
@output_option
def create_pause(environment: str, model: str, reason: str, end: End, output: Format) -> None:
    """Pause models of an environment, with everything downstream of them.

    A selection is kept as it is written: models that a later plan adds are paused, too, if they match. To pause a
    whole environment: `tcloud environments pause`.
    """
    with project_api() as api:
        request = ModelPauseRequest.model_validate(
            {"environment": environment, "model": model, "reason": reason, **end}
        )
        answer = api.pause_models(request)
    say_paused(answer)
    show(as_json(answer.pause, PAUSE_FIELDS), output)


@pauses.command("delete")
@click.argument("pause_id")
@catch_up_option
@output_option
def delete_pause(pause_id: str, catch_up: bool, output: Format) -> None:
    """End a pause."""
    with project_api() as api:
        answer = api.delete_pause(pause_id, catch_up=catch_up)
    say_resumed(answer)
    show(as_json(answer.pause, PAUSE_FIELDS), output)
