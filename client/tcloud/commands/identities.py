"""`tcloud clients` and `tcloud accounts`: who may sign in at the server."""

import json

import click

from tcloud.commands.access import project_api
from tcloud.output import Format, output_option, show_many
from tcloud.wire.grants import Role
from tcloud.wire.identities import IdentityRequest, Revealed

__all__ = ["accounts", "clients"]

_CLIENT_FIELDS = ("identity_id", "display_name", "roles", "is_administrator", "created_by", "created_at", "disabled_at")
_ACCOUNT_FIELDS = (*_CLIENT_FIELDS, "password_is_one_time")
_COLUMNS = ("identity_id", "roles", "is_administrator", "created_by", "created_at", "disabled_at")
_ROLES = [role.value for role in Role]
_ROLES_OF_PEOPLE = [role.value for role in (Role.VIEWER, Role.OPERATOR, Role.DEVELOPER, Role.ADMIN)]


@click.group()
def clients() -> None:
    """Services that may sign in, each with a secret: CI, executors, tools. For administrators of the server."""


@clients.command("list")
@output_option
def list_clients(output: Format) -> None:
    """List the clients of the server."""
    with project_api() as api:
        show_many(api.clients(), _CLIENT_FIELDS, _COLUMNS, output)


@clients.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), help="A role in the project, to begin with.")
@click.option("--description", help="What it is for.")
@click.option("--administrator", is_flag=True, help="It administers the clients and accounts of the server.")
@output_option
def create_client(name: str, role: str | None, description: str | None, administrator: bool, output: Format) -> None:
    """Make a client, and print its secret once."""
    request = IdentityRequest(identity_id=name, display_name=description, role=role, is_administrator=administrator)
    with project_api() as api:
        _print_once(api.create_client(request), "client_secret", output)


@clients.command("rotate")
@click.argument("name")
@output_option
def rotate_client(name: str, output: Format) -> None:
    """Give a client a new secret, and print it once; the old one is not valid any more."""
    with project_api() as api:
        _print_once(api.rotate_client(name), "client_secret", output)


@clients.command("delete")
@click.argument("name")
def delete_client(name: str) -> None:
    """Delete a client with all that it was granted."""
    with project_api() as api:
        api.delete_client(name)
    click.echo(f"Deleted client '{name}'.")


@click.group()
def accounts() -> None:
    """People who may sign in. For administrators of the server."""


@accounts.command("list")
@output_option
def list_accounts(output: Format) -> None:
    """List the people of the server."""
    with project_api() as api:
        show_many(api.accounts(), _ACCOUNT_FIELDS, _COLUMNS, output)


@accounts.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES_OF_PEOPLE), help="A role in the project, to begin with.")
@click.option("--full-name", help="As it is shown to the person.")
@click.option("--administrator", is_flag=True, help="They administer the clients and accounts of the server.")
@output_option
def create_account(name: str, role: str | None, full_name: str | None, administrator: bool, output: Format) -> None:
    """Make a person's account, and print a password that is good once: they choose another when they sign in."""
    request = IdentityRequest(identity_id=name, display_name=full_name, role=role, is_administrator=administrator)
    with project_api() as api:
        _print_once(api.create_account(request), "one_time_password", output)


@accounts.command("reset-password")
@click.argument("name")
@output_option
def reset_password(name: str, output: Format) -> None:
    """Give a person a password that is good once, and print it; wherever they are signed in, they are not any more."""
    with project_api() as api:
        _print_once(api.reset_password(name), "one_time_password", output)


@accounts.command("disable")
@click.argument("name")
def disable_account(name: str) -> None:
    """Shut a person out, everywhere and at once."""
    with project_api() as api:
        api.disable_account(name)
    click.echo(f"'{name}' may not sign in any more.")


@accounts.command("enable")
@click.argument("name")
def enable_account(name: str) -> None:
    """Let a person sign in again."""
    with project_api() as api:
        api.enable_account(name)
    click.echo(f"'{name}' may sign in again.")


@accounts.command("delete")
@click.argument("name")
def delete_account(name: str) -> None:
    """Delete a person's account with all that it was granted."""
    with project_api() as api:
        api.delete_account(name)
    click.echo(f"Deleted the account '{name}'.")


def _print_once(revealed: Revealed, what: str, output: Format) -> None:
    secret = revealed.secret.get_secret_value()
    if output is Format.JSON:
        click.echo(json.dumps({"identity_id": revealed.identity_id, what: secret}, indent=2))
        return
    click.echo(f"{revealed.identity_id}: {what.replace('_', ' ')}, not to be seen again:\n\n    {secret}\n")
