"""`tcloud audit`."""

import click

from tcloud.commands.access import project_api
from tcloud.output import Format, output_option, show_many

__all__ = ["audit"]

_FIELDS = ("entry_id", "at", "actor", "action", "subject", "details")


@click.group()
def audit() -> None:
    """The audit log: who did what; nobody can change it."""


@audit.command("list")
@click.option("--environment", metavar="NAME", help="Only what was done to this environment.")
@click.option("--actor", metavar="CLIENT", help="Only what this client did.")
@click.option("--action", metavar="ACTION", help="Only this, such as environment.pause.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@output_option
def list_entries(environment: str | None, actor: str | None, action: str | None, limit: int, output: Format) -> None:
    """List entries, newest first."""
    with project_api() as api:
        found = api.audit_log(actor=actor, action=action, subject=environment, limit=limit)
    show_many(found, _FIELDS, _FIELDS, output)
