"""`tcloud grants`."""

import click

from tcloud.commands.access import project_api
from tcloud.output import Format, as_json, output_option, show, show_many
from tcloud.wire.grants import Action, GrantRequest, Role

__all__ = ["grants"]

_FIELDS = ("grant_id", "identity_id", "role", "actions", "environments", "models", "created_by", "created_at")


@click.group()
def grants() -> None:
    """Grants: who may do what, in which environments and with which models. What is not granted is not allowed."""


@grants.command("list")
@click.option("--who", "identity_id", metavar="NAME", help="Only grants of this person or service.")
@output_option
def list_grants(identity_id: str | None, output: Format) -> None:
    """List the project's grants."""
    with project_api() as api:
        show_many(api.grants(identity_id), _FIELDS, _FIELDS, output)


@grants.command("add")
@click.argument("who")
@click.argument("role", required=False, type=click.Choice([role.value for role in Role]))
@click.option(
    "--action",
    "actions",
    multiple=True,
    type=click.Choice([action.value for action in Action]),
    help="In place of a role: an action; may be given more than once.",
)
@click.option(
    "--environment",
    "environments",
    metavar="GLOB",
    multiple=True,
    help="Only in environments of this name, as in prod or 'dev_*'; may be given more than once.",
)
@click.option(
    "--model",
    "models",
    metavar="SELECTION",
    multiple=True,
    help="Only for these models: a name, or a selection as in `--select-model`; may be given more than once.",
)
@output_option
def add_grant(
    who: str,
    role: str | None,
    actions: tuple[str, ...],
    environments: tuple[str, ...],
    models: tuple[str, ...],
    output: Format,
) -> None:
    """Grant WHO a role, or actions.

    Whoever may do anything in an environment may also see it; --model does not limit what is seen.
    """
    if (role is None) == (not actions):
        raise click.UsageError("A grant is of a role, or of actions (--action): give one of the two.")
    request = GrantRequest.model_validate(
        {
            "identity_id": who,
            "role": role,
            "actions": list(actions),
            "environments": list(environments) or ["*"],
            "models": list(models) or ["*"],
        }
    )
    with project_api() as api:
        show(as_json(api.add_grant(request), _FIELDS), output)


@grants.command("remove")
@click.argument("grant_id")
@output_option
def remove_grant(grant_id: str, output: Format) -> None:
    """Take a grant back; it holds no longer within seconds."""
    with project_api() as api:
        show(as_json(api.remove_grant(grant_id), _FIELDS), output)


@grants.command("mine")
@output_option
def list_mine(output: Format) -> None:
    """List what you may do."""
    with project_api() as api:
        show_many(api.permissions().grants, _FIELDS, _FIELDS, output)
