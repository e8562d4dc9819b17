"""`tcloud audit`."""

import click

from tcloud.commands.access import project_api
from tcloud.output import Format, output_option, show_many

__all__ = ["audit"]

_FIELDS = ("entry_id", "at", "actor", "action", "subject", "allowed", "address", "details")


@click.group()
def audit() -> None:
    """The audit log: who did what, or was not allowed to; nobody can change it."""


@audit.command("list")
@click.option("--environment", metavar="NAME", help="Only what was done to this environment.")
@click.option("--actor", metavar="CLIENT", help="Only what this client did.")
@click.option("--action", metavar="ACTION", help="Only this, such as environment.pause.")
@click.option("--denied/--allowed", default=None, help="Only what was not allowed, or only what was done.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@output_option
def list_entries(
    environment: str | None, actor: str | None, action: str | None, denied: bool | None, limit: int, output: Format
) -> None:
    """List entries, newest first."""
    allowed = None if denied is None else not denied
    with project_api() as api:
        found = api.audit_log(actor=actor, action=action, subject=environment, allowed=allowed, limit=limit)
    show_many(found, _FIELDS, _FIELDS, output)
